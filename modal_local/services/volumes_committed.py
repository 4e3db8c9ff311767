"""All volumes and what is committed in each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from modal_local.services import volumes_tree
from modal_local.services.named_objects import NamedObjects
from modal_local.services.volumes_blocks import BlockStore

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.services.volumes_tree import Tree

_TABLE: Final = "volumes"
_TREES: Final = "volume_trees"


class CommittedVolumes:
    """The volumes, their trees and the blocks that these are made of.

    Args:
        context: of the server.
    """

    def __init__(self, context: "Context") -> None:
        self._context = context
        self._trees: dict[str, Tree] = {key: volumes_tree.load(data) for key, data in context.store.items(_TREES)}
        self.objects = NamedObjects(context, table=_TABLE, prefix="vo", kind="Volume", forget=self._forget)
        self.blocks = BlockStore(context.state_dir / "volume_blocks")
        self.blocks.sweep(self._used_blocks())

    def tree(self, volume_id: str) -> "Tree":
        """What is committed.

        Raises:
            NotFoundError: no such volume.
        """
        self.objects.require(volume_id)
        return self._trees.get(volume_id, {})

    def commit(self, volume_id: str, tree: "Tree") -> None:
        """Makes a tree what is committed; durable when the store is flushed."""
        self._trees[volume_id] = tree
        self._context.store.put(_TREES, volume_id, volumes_tree.dump(tree))

    def now_ns(self) -> int:
        """Unix time in nanoseconds."""
        return int(self._context.clock.now() * 1e9)

    def _forget(self, volume_id: str) -> None:
        self._trees.pop(volume_id, None)
        self._context.store.delete(_TREES, volume_id)

    def _used_blocks(self) -> Iterator[str]:
        for tree in self._trees.values():
            for entry in tree.values():
                yield from entry.blocks

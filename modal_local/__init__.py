"""A Modal on loopback.

What lives here: an embedded control plane that the unmodified modal SDK, CLI and container entrypoint talk to
over Modal's own wire protocol. It runs what is deployed to it as local processes, and it can misbehave on demand.

What must hold: it answers loopback only; an accepted call and a returned result survive a restart when a state
directory is given; an input whose container dies is run again or ended as the policy says, never lost; no container
outlives the server.

Who may come in: `modal_local.server.ModalLocal` starts it, `modal_local.cli` is its command line,
`modal_local.admin_client` steers a running one. Requests come in by `rpc` (gRPC, by grpclib in `transport`) and `http`
(blobs, admin), and for deployed web functions by `web`. One object per subject under `services/` answers them; it keeps
its state in `store` and gets everything else from a `Context`. `rpc` describes how service objects are written;
`contracts`, what they ask of each other.
"""

"""What the control plane answers, one module for each subject.

Each holds a service object whose public async methods are named as the RPCs that they serve. A service takes a
`Context`, loads its state from the store in its constructor, and writes each change back before it answers.
Services know each other only by the protocols in `modal_local.contracts`.
"""

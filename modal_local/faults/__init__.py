"""What can be made to go wrong, on demand.

`model` says which faults there are and reads them from dicts and TOML: pure. `injector` holds those that are in force,
stands between RPCs and services, and acts on containers. `launcher` stands before the real launcher and makes starts
fail. `script` plays a file of faults in time, and draws random ones from a seed.

A fault never breaks the promises of the scheduler: what was accepted still ends, in one of the ways that Modal's own
failures have.
"""

"""The overflow plane's way to Modal: a port in our words, and its one implementation by the real SDK.

What lives here
    port     what the overflow plane wants from Modal, and what it answers; imports no SDK
    client   the implementation; the only module that calls the SDK
    patches  what is changed in the SDK: a bound on results, a mark on exceptions that are a call's own result
    unpickling  what the SDK may unpickle here: plain values and known exceptions
"""

"""Web functions: HTTP and WebSocket requests on loopback become inputs, and what the app answers goes back.

Each web function has a port of its own, which it keeps over redeploys and restarts. `gateway` listens there and knows
which function a port belongs to, `exchange` carries one request and its answer, `messages` puts both into the form in
which the SDK's containers want them. A request is a call like any other: it waits, scales from zero, is billed.
"""

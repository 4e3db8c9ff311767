"""The HTTP API, in the shape of OpenAI's Videos API, so that its own client drives us unchanged.

What lives here
    multipart, forms, creation      pure: a body becomes a job
    presentation                    pure: a record becomes a Video object
    errors                          the one shape of every error: `{"error": {message, type, param, code}}`
    messages                        pure: the public sentence for each error code of a job
    connections                     who may hold a connection, and what is HTTP: before there is a key to read
    auth, bodies                    whose request this is; its body, bounded in bytes and time
    admission                       rejects a job that would be refused a moment later: 429, 503
    ledger_threads, submission, outbox   the sync ledger behind a bounded pool; once-only submission; nudges afterwards
    videos, health                  the routes
    envelope, app                   request ids and the last resort around them; how it is all wired (`create_app`)

What must hold
    A request that is refused leaves no trace in the ledger but, if a limit refused it, one on a counter: everything is
    checked before the first write.
    A job is in the ledger before its nudge is sent, and a nudge that cannot be sent changes no answer.
    Another tenant's job does not exist: 404, never 403.
    No key, no prompt and no address of ours is ever logged or answered.

Who may come in
    Nobody: uvicorn starts it (`uvicorn --factory api.app:create_app`). It uses the ledger and, behind ports,
    workers' nudging and artifacts.
"""

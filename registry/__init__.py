"""What is recorded and deployed: scores, versions, retrains, alerts, audit; the MLflow store beside them.

A map of the database half (each module is one noun; all but ``database`` are functions over a ``Session``):

``tables``    the SQLAlchemy models          ``checks``    verdicts, one a night
``database``  open, migrate, sessions        ``retrains``  the declared states of a retrain
``lines``     lines, versions, aliases       ``outbox``    alerts, enqueued and delivered
``scores``    the score log and its windows  ``webhook``   Standard Webhooks: sign and post
``images``    what was seen, and its labels  ``audit``     append-only: who did what, when, why
``moves``     a champion's move, announced   ``history``   who was champion, who judged an image
``approval``  who wants a version deployed   ``live``      a version judged by its live nights

Nothing is imported here, so that ``import registry.database`` stays light.
"""

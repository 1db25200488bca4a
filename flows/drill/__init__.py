"""The fire drill: known disturbances at rising strength on a line's own images, before a real one comes.

`material` chooses the images, `rehearsal` exposes and judges them, `relearning` retrains where a night is drift,
`running` puts them together, `document` and `page` tell of it. Nothing is logged or registered.
"""

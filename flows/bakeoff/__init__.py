"""The bake-off: every detector family on a line's own images, measured by what a line pays for and gets.

`material` chooses the images, `contest` fits, scores, retrains and soils each family within a time budget, `station` is
the fresh process in which its latency and memory are measured, `recommending` chooses, `running` puts them together,
`document` and `page` tell of it. It knows no family by name but in the rules of thumb; nothing is logged or registered.
"""

"""The command `inspect`: texts exit by exit, their tokens with predicted layers, what each exit sees.

`source` opens a model; `trace`, `tokens`, `samples` and `spaces` look into it; `inspection` is all of it together, and
`tables`, `page`, `charts` and `picture` show it.
"""

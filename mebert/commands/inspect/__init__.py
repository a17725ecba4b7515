"""The command `inspect`: texts exit by exit, their tokens with predicted layers, what each exit sees.

settings, source                what was asked for; a checkpoint, a run or a model folder, opened
trace                           all exits of a batch, and one text's way through them
tokens, samples, spaces         exit prediction of each token; rows beside the texts; each exit's space in 2 dimensions
inspection, run                 all of it together; the command itself
tables, page, charts, picture   the same as tables in the terminal, as a page, its charts, and as a picture
"""

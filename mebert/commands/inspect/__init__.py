"""Looking inside one model: texts exit by exit, tokens with their predicted layers, what each exit sees.

settings       what is asked for
source         what is opened: a checkpoint, a run, a model folder
walk, trace    all exits of a text, as the engines decide
tokens         what an exit predictor says of a text and its tokens
samples        rows to see the texts beside
plane, spaces  what each exit sees, in two dimensions
report, run    all of it together (`inspect_model`); tables, picture and page show it
"""

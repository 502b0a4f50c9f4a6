"""A learned value of a state: how far along is the task that a sentence names, by what a frame shows?"""

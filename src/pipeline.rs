//! The sentence: claim, unpack, recognise, read, normalise, identify, commit, retire.

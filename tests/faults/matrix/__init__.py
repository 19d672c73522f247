"""The fault matrix: what a process pool makes of things that go wrong, plait's and others.

`cases`, `hostile`, `lacks` and `parents` hold the faults, `tasks` what runs in the workers, `pools`
one small adapter a library, `trial` the checks, `run` starts one case of one library as a
program of its own (``python -m matrix plait killed``) and reads its verdict.
"""

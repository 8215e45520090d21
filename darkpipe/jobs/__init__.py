"""Jobs: what a step asks for, what is stale and why, and how it is run.

contract : `Job` and `Step`.
journal : what was made from what, and whether it still holds.
runner : a batch of jobs on an executor, checked and recorded.
engine, lock, explain, stamps, report : the parts they need.
"""

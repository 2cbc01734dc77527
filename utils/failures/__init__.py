"""Failures on demand, the pure part: which faults there are, when they come, what they do to the bytes of an answer.

`faults` names the kinds; `grammar` reads a plan such as `refused, cut@40%, ok`; `plan` hands the faults out, one
attempt after the other, and counts; `stream` applies a fault to the bytes of an answer; `answers` holds the responses
that stand in for the server's own; `marking` says whose fault an error was. `utils.failure_simulator` puts them into
a transport.
"""

"""The data mover: a program that runs beside a volume and moves its contents into a location, or out of one.

It gets one order, writes where it stands into a file, and says at its end what came of it. It knows nothing of
Kubernetes; whoever started it (`reconciler.volumes`) hands it the order and collects the result.
"""

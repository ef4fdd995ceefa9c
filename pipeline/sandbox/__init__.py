"""A local MAS-ST and a local ASIC gateway over real HTTPS, with scripted trouble: for people and for tests.

They judge the client, so they share no signing or verifying code with it. Everything in them is synthetic.
"""

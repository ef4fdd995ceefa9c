"""`lodge doctor`: what lodging needs, looked at piece by piece. Judgements are pure; `walk` puts them in order."""

"""A document's way to the agency, one word per step:

producer ──job──▶ admit        stages/admit.py        take it in, or let it wait until it is its sender's turn
                  receive      stages/receive.py      validate the job, allocate its reference, store the payload
                  authorise    stages/authorise.py    see that a fresh security token exists for its token key
                  seal         stages/seal.py         build and store the secured envelope
                  submit       stages/submit.py       write the attempt, send the stored bytes, store the raw reply
                  record       stages/record.py       read the reply: outcome, message events, and what follows
                  reschedule   stages/reschedule.py   put back what is due: retries, polls, releases, the stuck
"""

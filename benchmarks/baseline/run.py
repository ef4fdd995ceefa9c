"""Publish lodgments, first to warm up and then to count; wait each time until all are recorded; print the figures as JSON."""
import json, os, sys, time, uuid
from sqlalchemy import func, select
import app as b
WARM_UP, N, PATIENCE = map(int, sys.argv[1:4])
payload = open(os.environ["PAYLOAD"]).read()
def lodge(n):
    b.meta.drop_all(b.engine); b.meta.create_all(b.engine)
    t = time.perf_counter()
    for _ in range(n): b.seal.delay(uuid.uuid4().hex, payload)
    published = time.perf_counter() - t
    while True:
        with b.engine.begin() as cx: done = cx.scalar(select(func.count()).select_from(b.lodgment))
        d = time.perf_counter() - t
        if done >= n: break
        if d > PATIENCE: sys.exit(f"{done} of {n} lodgments were recorded within {PATIENCE} s")
        time.sleep(0.05)
    with b.engine.begin() as cx: events = cx.scalar(select(func.count()).select_from(b.event))
    return {"lodgments": n, "seconds": d, "published_in": published, "message_events": events}
lodge(WARM_UP)
print("warm", flush=True); sys.stdin.readline()
print(json.dumps(lodge(N)), flush=True)

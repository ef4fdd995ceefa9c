# One image for every worker and for `lodge` on the command line. It is built from the same lock as the tests ran with,
# so the checking tools are in it too; a second lock could drift from the first.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /venv
COPY requirements.lock .
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/lodge --create-home lodge
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/lodge
USER lodge
ENTRYPOINT ["lodge"]

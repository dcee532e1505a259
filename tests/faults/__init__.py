"""The fault campaign: the package's promises, attacked on real processes.

    pytest -m faults                                    the quick part: one test a fault, some minutes
    pytest -m "faults or slow" tests/faults             and its variants: other pools, longer runs
    python -m tests.faults.campaign --messages 20000    the long part: every fault at random, prints its seed
    python -m tests.faults.new_number --csv till.csv    a month of sales on a new number, with a worker killed each day

A test breaks one thing, lets the shop sell, waits until nothing is on its way, and says what is expected. The promises
A to G and L (see `invariants`) need no mention: they are checked at the end of every test by comparing the sandbox's
ledger, the database and what the shop sold, and each violation names its message, attempts and deliveries.

    def test_killed_after_its_claim_the_message_is_in_doubt(shop):
        shop.start_worker(after_claim={"do": "kill", "at": 3})   # a real worker, killed as its third send gets there
        shop.start_beat()
        shop.sell(6)                                              # paid sales, each committed in this process
        shop.settle()                                             # B: fails where nothing moves for too long
        assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}

What is there:
- `harness.Shop` (fixtures `shop`, and `make_shop(PACE_SECONDS=[1, 1])` for other settings): its broker, workers, beats
  and `manage.py` processes, its sales and messages. Leases last 9 s (`IMPATIENT`), beats run every second.
- `phone` (tests/sandbox.py): the sandbox as a process, whose ledger is the truth; `phone.set_faults(…)` breaks HTTP.
- `failing`: an app in those processes that kills, freezes or disconnects them at a failpoint: `before_claim`,
  `after_claim`, `mid_post`, `before_answer`, `after_post`, `after_record`; by count over all processes, or at random by
  a seed. `shop.reached(failpoint)` waits for it and gives the process' id.
  Site code that hangs is `shop.careless = {"render": "hang"}`, a wrong clock `start_worker(clock_seconds=3600)`.
- `proxy.Proxy`: stands between the site and its broker or database, and refuses, falls silent or cuts.
- `shop.hears = True`, before processes start: `shop.heard()` has every signal that they sent.
- A test that asks for a resend says so (`shop.resend(message)`), one that posts webhooks notes what they were answered
  (`shop.answered[body].append(status)`), one that rolls a sale back adds it to `shop.withdrawn`.

The database is the suite's (`DATABASE_URL`), the broker Redis, or what `KPWA_FAULTS_BROKER` says: `rabbitmq` (with
`RABBITMQ_URL`), `filesystem`. No test depends on a tight clock: a busy machine is slow.
"""

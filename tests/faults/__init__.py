"""The fault campaign: attacks the package's promises with real processes.

    pytest -m faults                                    the quick part: one test per fault, some minutes
    pytest -m "faults or slow" tests/faults             and its variants: other pools, longer runs
    python -m tests.faults.campaign --messages 20000    the long part: every fault at random, prints its seed
    python -m tests.faults.new_number --csv till.csv    a month of sales on a new number, with a worker killed each day

A test breaks one thing, lets the shop sell, waits until nothing is in progress, and asserts the result. Tests need not
mention the promises A to G and L (see `invariants`). They are checked at the end of every test by comparing the
sandbox's ledger, the database and the shop's sales. Each violation names its message, attempts and deliveries.

    def test_killed_after_its_claim_the_message_is_in_doubt(shop):
        shop.start_worker(after_claim={"do": "kill", "at": 3})   # a real worker, killed when its third send gets there
        shop.start_beat()
        shop.sell(6)                                              # paid sales, each committed in this process
        shop.settle()                                             # B: fails if nothing moves for too long
        assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}

Tests can use:

- `harness.Shop` (fixtures `shop`, and `make_shop(PACE_SECONDS=[1, 1])` for other settings): its broker, workers, beats
  and `manage.py` processes, its sales and messages. Leases last 9 s (`IMPATIENT`), beats run every second.
- `phone` (tests/sandbox.py): the sandbox as a process, whose ledger is the truth; `phone.set_faults(…)` breaks HTTP.
- `failing`: an app in those processes that kills, freezes or disconnects them at a failpoint: `before_claim`,
  `after_claim`, `mid_post`, `before_answer`, `after_post`, `after_record`. It acts by a count over all processes, or at
  random from a seed. `shop.reached(failpoint)` waits for it and returns the process id.
  `shop.careless = {"render": "hang"}` makes site code hang; `start_worker(clock_seconds=3600)` sets a wrong clock.
- `proxy.Proxy`: stands between the site and its broker or database. It can refuse, go silent or cut connections.
- `shop.hears = True`, before processes start: `shop.heard()` has every signal that they sent.
- A test that asks for a resend must call `shop.resend(message)`. A test that posts webhooks must record their answers
  (`shop.answered[body].append(status)`). A test that rolls a sale back must add it to `shop.withdrawn`.

The database is the suite's (`DATABASE_URL`). The broker is Redis, unless `KPWA_FAULTS_BROKER` names `rabbitmq` (with
`RABBITMQ_URL`) or `filesystem`. No test depends on exact timing, because a busy machine is slow.
"""

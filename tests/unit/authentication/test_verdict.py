from mailshed.authentication.verdict import Accepted, Rejected, Unavailable, Verdict


def test_only_a_no_is_the_clients_fault() -> None:
    """What decides between 235, 535 and 454 is the type alone."""
    verdicts: list[Verdict] = [Accepted("alice"), Rejected("alice"), Unavailable("alice")]

    codes = []
    for verdict in verdicts:
        match verdict:
            case Accepted(login):
                codes.append((235, login))
            case Rejected(detail):
                codes.append((535, detail))
            case Unavailable(detail):
                codes.append((454, detail))
    assert codes == [(235, "alice"), (535, "alice"), (454, "alice")]
    assert len(set(verdicts)) == 3

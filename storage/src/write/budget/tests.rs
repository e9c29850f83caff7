//! Budgets polled by hand: who gets what, and when.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::*;

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn client(n: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, n])
}

fn budget(total: usize) -> Budget {
    let metrics = ottla_telemetry::Metrics::new();
    Budget::new(
        total,
        BudgetMetrics {
            held: metrics.memory.bytes.with(["produce"]),
            held_max: metrics.memory.bytes_max.with(["produce"]),
            waited: metrics.produce.backpressure.clone(),
        },
    )
}

fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn now(budget: &Budget, client: IpAddr, bytes: usize) -> Reservation {
    match poll(&mut pin!(budget.reserve(client, bytes))) {
        Poll::Ready(granted) => granted.unwrap(),
        Poll::Pending => panic!("not granted at once"),
    }
}

#[test]
fn a_frame_longer_than_the_budget_is_refused() {
    let refused = poll(&mut pin!(budget(100).reserve(A, 101)));
    assert!(matches!(refused, Poll::Ready(Err(BudgetError { bytes: 101, max: 100 }))));
}

#[test]
fn bytes_come_back_when_a_reservation_is_dropped() {
    let budget = budget(100);
    let frame = now(&budget, A, 20);
    let overhead = frame.charge(200);
    assert_eq!(budget.used(), 220);
    drop(frame);
    assert_eq!(budget.used(), 200);
    drop(overhead);
    assert_eq!(budget.used(), 0);
    assert!(budget.lock().clients.is_empty());
}

#[test]
fn a_reservation_of_nothing_leaves_no_trace_of_its_client() {
    let budget = budget(100);
    drop(now(&budget, A, 0));
    assert!(budget.lock().clients.is_empty());
    let mut held = now(&budget, A, 0);
    held.resize(30);
    assert_eq!(budget.used(), 30);
    drop(held);
    assert!(budget.lock().clients.is_empty());
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let budget = budget(100);
    let held: Vec<_> = (0..4).map(|n| now(&budget, client(n), 25)).collect();
    let (mut large, mut small) =
        (pin!(budget.reserve(client(9), 40)), pin!(budget.reserve(client(8), 1)));
    assert!(poll(&mut large).is_pending() && poll(&mut small).is_pending());
    let mut held = held.into_iter();
    drop(held.next());
    assert!(poll(&mut small).is_pending(), "a small frame does not overtake a large one");
    drop(held.next());
    let Poll::Ready(Ok(first)) = poll(&mut large) else { panic!("granted") };
    let Poll::Ready(Ok(second)) = poll(&mut small) else { panic!("granted") };
    assert_eq!(budget.used(), 50 + 41);
    drop((first, second, held));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_client_over_its_share_waits_without_holding_up_others() {
    let budget = budget(100);
    let held = now(&budget, A, 20);
    let mut more = pin!(budget.reserve(A, 10));
    let mut least = pin!(budget.reserve(A, 1));
    assert!(poll(&mut more).is_pending());
    assert!(poll(&mut least).is_pending(), "not before the one that came first");
    let mut other = pin!(budget.reserve(B, 25));
    assert!(poll(&mut other).is_ready());
    drop(held);
    assert!(poll(&mut more).is_ready() && poll(&mut least).is_ready());
}

#[test]
fn a_client_that_holds_nothing_gets_a_frame_larger_than_its_share() {
    let budget = budget(100);
    let held = now(&budget, A, 100);
    assert!(poll(&mut pin!(budget.reserve(A, 1))).is_pending());
    drop(held);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_waiter_that_goes_away_makes_room_for_those_behind() {
    let budget = budget(100);
    let _held: Vec<_> = (0..3).map(|n| now(&budget, client(n), 25)).collect();
    let mut behind = pin!(budget.reserve(B, 20));
    {
        let mut large = pin!(budget.reserve(A, 60));
        assert!(poll(&mut large).is_pending());
        assert!(poll(&mut behind).is_pending());
    }
    assert!(poll(&mut behind).is_ready());
}

#[test]
fn a_grant_that_nobody_takes_is_given_back() {
    let budget = budget(100);
    let held = now(&budget, A, 100);
    {
        let mut waiting = pin!(budget.reserve(B, 50));
        assert!(poll(&mut waiting).is_pending());
        drop(held);
        assert_eq!(budget.used(), 50, "granted, not yet taken");
    }
    assert_eq!(budget.used(), 0);
    assert!(!budget.has_waiters());
}

#[test]
fn a_frame_holds_what_came_of_it_and_nothing_that_it_claims() {
    let budget = budget(1_000);
    let mut frames: Vec<_> = (0..100).map(|n| budget.begin(client(n), 500).unwrap()).collect();
    assert_eq!(budget.used(), 0);
    assert!(poll(&mut pin!(frames[3].grow(4))).is_ready());
    assert_eq!(budget.used(), 4);
    let whole = frames.remove(3).finish();
    drop(frames);
    assert_eq!((budget.used(), whole.bytes()), (4, 4));
    drop(whole);
    assert_eq!(budget.used(), 0);
    assert!(budget.lock().clients.is_empty());
}

#[test]
fn a_frame_longer_than_half_of_the_budget_is_refused() {
    assert_eq!(budget(100).begin(A, 51).unwrap_err(), BudgetError { bytes: 51, max: 50 });
}

#[test]
fn only_the_oldest_frame_takes_what_the_longest_may_need() {
    let budget = budget(100);
    let mut oldest = budget.begin(client(0), 50).unwrap();
    let mut others: Vec<_> = (1..6).map(|n| budget.begin(client(n), 50).unwrap()).collect();
    for other in &mut others {
        assert!(poll(&mut pin!(other.grow(10))).is_ready());
    }
    let mut sixth = budget.begin(client(6), 50).unwrap();
    let mut too_much = pin!(sixth.grow(1));
    assert!(poll(&mut too_much).is_pending(), "unfinished frames hold half of the budget");
    let small = now(&budget, client(7), 20);
    {
        let mut rest = pin!(oldest.grow(50));
        assert!(poll(&mut rest).is_pending(), "what is finished holds some of its rest");
        assert!(budget.try_reserve(client(8), 1).is_none(), "everybody waits behind the oldest");
        drop(small);
        assert!(poll(&mut rest).is_ready());
    }
    drop(oldest.finish());
    // Now the next one is the oldest.
    assert!(poll(&mut pin!(others[0].grow(40))).is_ready());
}

#[test]
fn a_clients_frames_do_not_block_each_other_within_its_share() {
    let budget = budget(100);
    let _elsewhere = budget.begin(B, 10).unwrap();
    let mut first = budget.begin(A, 40).unwrap();
    let mut second = budget.begin(A, 40).unwrap();
    assert!(poll(&mut pin!(first.grow(12))).is_ready());
    assert!(poll(&mut pin!(second.grow(12))).is_ready());
    let mut more = pin!(second.grow(12));
    assert!(poll(&mut more).is_pending(), "over the client's share");
    assert!(poll(&mut pin!(first.grow(20))).is_ready(), "the client's oldest gets done");
    drop(first.finish());
    assert!(poll(&mut more).is_ready());
}

/// Frames of several clients in random steps: whatever the order, all of them get done, and the
/// budget is never exceeded.
#[test]
fn frames_that_are_received_at_the_same_time_all_get_done() {
    use ottla_env::Random;

    for seed in 0..200 {
        let random = Random::seeded(seed);
        let budget = budget(1_000);
        let mut frames: Vec<(Unfinished, usize)> = Vec::new();
        let mut done: VecDeque<Reservation> = VecDeque::new();
        let (mut begun, mut idle_rounds) = (0, 0);
        while begun < 60 || !frames.is_empty() {
            idle_rounds += 1;
            if begun < 60 && random.below(2) == 0 {
                let length = 1 + random.below(500) as usize;
                let frame = budget.begin(client(random.below(5) as u8), length).unwrap();
                frames.push((frame, length));
                begun += 1;
            }
            if random.below(3) == 0 {
                done.pop_front();
            }
            // Every frame asks for its next step, in random order; what waits asks again later.
            for _ in 0..frames.len() {
                let at = random.below(frames.len() as u64) as usize;
                let (frame, length) = &mut frames[at];
                let step = (1 + random.below(200) as usize).min(*length - frame.held.bytes());
                if poll(&mut pin!(frame.grow(step))).is_ready() {
                    idle_rounds = 0;
                }
                assert!(budget.used() <= 1_000);
                if frame.held.bytes() == *length {
                    done.push_back(frames.remove(at).0.finish());
                    if frames.is_empty() {
                        break;
                    }
                }
            }
            assert!(idle_rounds < 1_000, "seed {seed}: nothing moves");
        }
        drop(done);
        assert_eq!(budget.used(), 0);
        assert!(budget.lock().clients.is_empty() && budget.lock().waiting.is_empty());
    }
}

#[test]
fn a_reservation_is_made_to_fit_what_is_held_in_the_end() {
    let budget = budget(100);
    let mut held = now(&budget, A, 20);
    held.resize(5);
    assert_eq!((budget.used(), held.bytes()), (5, 5));
    held.resize(120);
    assert_eq!((budget.used(), held.bytes()), (120, 120), "even beyond the budget");
    drop(held);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_reservation_grows_only_while_bytes_are_free_and_nobody_waits() {
    let budget = budget(100);
    let mut held = now(&budget, A, 10);
    assert!(held.try_grow(10));
    assert!(!held.try_grow(6), "beyond the share of its client");
    let rest = now(&budget, B, 77);
    assert!(!held.try_grow(4), "not free");
    assert!(held.try_grow(3));
    assert_eq!((held.bytes(), budget.used()), (23, 100));
    drop(rest);
    let mut waits = pin!(budget.reserve(client(1), 90));
    assert!(poll(&mut waits).is_pending());
    assert!(!held.try_grow(1), "others wait");
    drop(held);
    drop(poll(&mut waits));
    assert_eq!(budget.used(), 0);
}

#[test]
fn the_parts_of_a_reservation_are_given_back_one_by_one() {
    let budget = budget(100);
    let mut held = now(&budget, A, 50);
    let part = held.split(20);
    assert_eq!((held.bytes(), part.bytes(), budget.used()), (30, 20, 50));
    drop(held);
    assert_eq!(budget.used(), 20);
    let mut part = part;
    let rest = part.split(100);
    drop(part);
    assert_eq!((rest.bytes(), budget.used()), (20, 20));
    drop(rest);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_client_beyond_its_share_presses_itself_and_no_other() {
    let budget = budget(100);
    let greedy = now(&budget, A, 25);
    let patient = now(&budget, B, 25);
    let mut waits = pin!(budget.reserve(A, 10));
    assert!(poll(&mut waits).is_pending());
    assert!(budget.has_waiters_for(A) && !budget.has_waiters_for(B));
    let others: Vec<_> = (1..=2).map(|n| now_behind(&budget, client(n), 25)).collect();
    let mut waits = pin!(budget.reserve(client(3), 10));
    assert!(poll(&mut waits).is_pending());
    assert!(budget.has_waiters_for(A) && budget.has_waiters_for(B));
    drop((greedy, patient, others));
}

/// Granted although others wait, who are held to their share.
fn now_behind(budget: &Budget, client: IpAddr, bytes: usize) -> Reservation {
    match poll(&mut pin!(budget.reserve(client, bytes))) {
        Poll::Ready(granted) => granted.unwrap(),
        Poll::Pending => panic!("held up by a client beyond its share"),
    }
}

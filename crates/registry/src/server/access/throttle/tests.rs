use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn fail(throttle: &Throttle, from: IpAddr, user: &str, now: Instant) -> Result<(), Duration> {
    throttle.begin(from, user, now).map(|attempt| attempt.failed(now))
}

#[test]
fn each_further_failure_doubles_the_wait() {
    let (throttle, mut now) = (Throttle::default(), Instant::now());
    for _ in 0..=FREE_BY_USER {
        fail(&throttle, HERE, "a", now).unwrap();
    }
    let mut waits = Vec::new();
    for _ in 0..9 {
        let wait = throttle.begin(HERE, "a", now).map(|_| ()).unwrap_err();
        waits.push(wait.as_secs());
        now += wait;
        fail(&throttle, HERE, "a", now).unwrap();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Other users here and the same from elsewhere are free; after a while so is this one.
    fail(&throttle, HERE, "b", now).unwrap();
    fail(&throttle, "192.0.2.1".parse().unwrap(), "a", now).unwrap();
    fail(&throttle, HERE, "a", now + FORGOTTEN).unwrap();
    fail(&throttle, HERE, "a", now + FORGOTTEN).unwrap();
}

#[test]
fn a_success_forgives_the_user_but_not_the_address() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..=FREE_BY_ADDRESS {
        fail(&throttle, HERE, &format!("user{n}"), now).unwrap();
        if n < FREE_BY_ADDRESS {
            throttle.begin(HERE, "mine", now).unwrap().succeeded(now);
        }
    }
    assert!(throttle.begin(HERE, "mine", now).is_err());
    let throttle = Throttle::default();
    for _ in 0..100 {
        fail(&throttle, HERE, "a", now).unwrap();
        if let Ok(attempt) = throttle.begin(HERE, "a", now) {
            attempt.succeeded(now);
        }
        if throttle.begin(HERE, "b", now).map(|attempt| attempt.succeeded(now)).is_err() {
            return;
        }
    }
    panic!("an address that fails for ever is never slowed down");
}

#[test]
fn guesses_at_once_are_bounded_and_hanging_up_is_a_failure() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let attempts: Vec<_> = std::iter::from_fn(|| throttle.begin(HERE, "a", now).ok()).take(1000).collect();
    assert_eq!(attempts.len(), AT_ONCE_MAX as usize);
    drop(attempts);
    assert!(throttle.begin(HERE, "a", now).is_err());
    assert!(throttle.0.lock().unwrap().under_way.is_empty());
}

#[test]
fn a_network_is_one_party() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..=FREE_BY_USER {
        fail(&throttle, format!("2001:db8::{n}").parse().unwrap(), "a", now).unwrap();
    }
    assert!(throttle.begin("2001:db8::ffff".parse().unwrap(), "a", now).is_err());
    assert!(throttle.begin("2001:db8:0:1::1".parse().unwrap(), "a", now).is_ok());
    assert_eq!(network("::ffff:127.0.0.1".parse().unwrap()), HERE);
}

#[test]
fn the_tables_are_bounded() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for n in 0..ENTRIES_MAX as u32 + 100 {
        fail(&throttle, IpAddr::from(n.to_be_bytes()), "a", now).unwrap();
    }
    let tables = throttle.0.lock().unwrap();
    assert!(tables.by_user.0.len() <= ENTRIES_MAX && tables.by_address.0.len() <= ENTRIES_MAX);
}

use super::*;
use corten_api::Timestamp;
use corten_api::event::EventsOptions;
use corten_api::filters::Filters;
use tokio::sync::mpsc::Receiver;

fn event(action: &str) -> EventMessage {
    let now = Timestamp::now();
    EventMessage {
        kind: "container".to_owned(),
        action: action.to_owned(),
        scope: "local".to_owned(),
        time: now.unix(),
        time_nano: now.unix_nanos(),
        ..EventMessage::default()
    }
}

fn since_the_beginning() -> EventsOptions {
    EventsOptions { since: Some(Timestamp::from_unix(0, 0)), ..EventsOptions::default() }
}

fn actions(events: &[EventMessage]) -> Vec<&str> {
    events.iter().map(|event| event.action.as_str()).collect()
}

async fn next(receiver: &mut Receiver<EventMessage>, count: usize) -> Vec<EventMessage> {
    let mut events = Vec::new();
    while events.len() < count {
        let wait = tokio::time::timeout(Duration::from_secs(20), receiver.recv());
        events.push(wait.await.expect("an event in time").expect("the stream goes on"));
    }
    events
}

async fn rest(mut receiver: Receiver<EventMessage>) -> Vec<EventMessage> {
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_slow_listener_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let events = Events::open(directory.path()).unwrap();
    let mut slow = events.listen(EventsOptions::default());
    for number in 0..5_000 {
        events.publish(event(&number.to_string()));
    }
    // Far more than memory and queue hold: the reader comes only now.
    let told = next(&mut slow, 5_000).await;
    assert!(told.iter().enumerate().all(|(number, event)| event.action == number.to_string()));
    assert!(told.windows(2).all(|pair| pair[0].time_nano < pair[1].time_nano), "times tell the order");
    assert!(events.shared.ring().events.len() <= WAITING);
    drop(slow);
    events.close();
    assert!(events.shared.ring().events.len() <= REMEMBERED);
}

#[tokio::test]
async fn the_past_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for life in ["first", "second"] {
        let events = Events::open(directory.path()).unwrap();
        events.publish(event(life));
        events.close();
    }
    // The end of a killed engine: half a line.
    let segment = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let mut torn = std::fs::read(&segment).unwrap();
    torn.extend_from_slice(b"3 17000000");
    std::fs::write(&segment, torn).unwrap();

    let events = Events::open(directory.path()).unwrap();
    let mut all = events.listen(since_the_beginning());
    events.publish(event("third"));
    assert_eq!(actions(&next(&mut all, 3).await), ["first", "second", "third"]);
    let past = EventsOptions { until: Some(Timestamp::now()), ..since_the_beginning() };
    assert_eq!(actions(&rest(events.listen(past)).await), ["first", "second", "third"]);
    events.close();
}

#[tokio::test]
async fn a_time_bounds_what_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let events = Events::open(directory.path()).unwrap();
    events.publish(event("before"));
    let middle = Timestamp::now();
    events.publish(event("after"));
    let after = EventsOptions { since: Some(middle), until: Some(Timestamp::now()), ..Default::default() };
    assert_eq!(actions(&rest(events.listen(after)).await), ["after"]);
    let until = EventsOptions { until: Some(middle), ..since_the_beginning() };
    assert_eq!(actions(&rest(events.listen(until)).await), ["before"]);
    let soon = Timestamp::from_unix_nanos(Timestamp::now().unix_nanos() + 50_000_000);
    let listener =
        events.listen(EventsOptions { until: Some(soon), since: Some(middle), ..Default::default() });
    events.publish(event("live"));
    assert_eq!(actions(&rest(listener).await), ["after", "live"]);
    events.close();
}

#[test]
fn old_segments_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path()).unwrap();
    let mut big = event("big");
    big.actor.id = "x".repeat(1 << 20);
    let big = Arc::new(big);
    for sequence in 1..=100 {
        journal.append(&[Numbered { sequence, event: big.clone() }]);
    }
    assert!(journal.bytes() < 75 << 20, "{}", journal.bytes());
    let first = journal.read(&mut journal::Reader::default(), 1, 1).unwrap();
    assert!(first[0].sequence > 30, "the oldest are gone, the next follow: {}", first[0].sequence);
    let (journal, last) = Journal::open(directory.path()).unwrap();
    assert_eq!(last.sequence, 100, "a last line that is longer than what is read at once");
    let mut reader = journal::Reader::default();
    assert_eq!(journal.read(&mut reader, 98, 10).unwrap().len(), 3);
    assert!(journal.read(&mut reader, 101, 10).unwrap().is_empty());
    journal.append(&[Numbered { sequence: 101, event: event("small").into() }]);
    assert_eq!(journal.read(&mut reader, 101, 10).unwrap()[0].event.action, "small", "a reader goes on");
}

#[test]
fn filters_mean_what_docker_means() {
    let mut start = event("exec_start: sh -c true");
    start.actor.id = "0123456789ab".to_owned();
    start.actor.attributes = [("image", "reg.io:5000/web:1"), ("name", "web-1"), ("tier", "front")]
        .map(|(k, v)| (k, v.to_owned()))
        .into_iter()
        .collect();
    let wanted = |pairs: &[(&str, &str)]| {
        let mut filters = Filters::new();
        pairs.iter().for_each(|(name, value)| filters.add(*name, *value));
        filter::matches(&start, &filters)
    };
    for yes in [
        &[("type", "container")][..],
        &[("event", "exec_start")],
        &[("container", "0123")],
        &[("container", "web")],
        &[("image", "reg.io:5000/web:1")],
        &[("image", "reg.io:5000/web")],
        &[("label", "tier=front")],
        &[("label", "tier"), ("scope", "local")],
        &[("container", "nobody"), ("container", "web-1")],
    ] {
        assert!(wanted(yes), "{yes:?}");
    }
    for no in [
        &[("type", "image")][..],
        &[("event", "exec_die")],
        &[("network", "web-1")],
        &[("image", "web")],
        &[("label", "tier=back")],
        &[("scope", "swarm")],
        &[("container", "web"), ("event", "die")],
    ] {
        assert!(!wanted(no), "{no:?}");
    }
}

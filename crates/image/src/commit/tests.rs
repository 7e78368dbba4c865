use super::*;

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split(' ').map(str::to_owned).collect())
}

#[test]
fn an_entrypoint_of_its_own_drops_the_containers_command() {
    let container = RunConfig { entrypoint: words("/entry"), cmd: words("serve"), ..RunConfig::default() };
    let mut run = RunConfig { entrypoint: words("/mine"), ..RunConfig::default() };
    inherit(&mut run, &container);
    assert_eq!((run.entrypoint, run.cmd), (words("/mine"), None));
    let mut run = RunConfig::default();
    inherit(&mut run, &container);
    assert_eq!((run.entrypoint, run.cmd), (words("/entry"), words("serve")));
}

#[test]
fn lists_are_joined_and_own_values_win() {
    let config = |env: &[&str], label: (&str, &str)| RunConfig {
        env: env.iter().map(|entry| (*entry).to_owned()).collect(),
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        ..RunConfig::default()
    };
    let mut run = config(&["A=1"], ("a", "own"));
    inherit(&mut run, &config(&["A=2", "B=3"], ("a", "other")));
    assert_eq!(run.env, ["A=1", "B=3"]);
    assert_eq!(run.labels["a"], "own");
    let health = |interval, retries| Healthcheck { interval, retries, ..Healthcheck::default() };
    let mut run = RunConfig { healthcheck: Some(health(5, 0)), ..RunConfig::default() };
    inherit(&mut run, &RunConfig { healthcheck: Some(health(7, 3)), ..RunConfig::default() });
    assert_eq!(run.healthcheck, Some(health(5, 3)));
}

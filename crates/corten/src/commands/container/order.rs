//! Several containers of one command in the order of what depends on what: a service is started after, and stopped before, those
//! that it needs.

use corten_api::client::{Client, Error};
use corten_api::container::{ContainerListOptions, ContainerSummary};
use corten_api::dependencies::{self, Labels, Node};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What others need comes first.
    Start,
    /// What needs others comes first.
    Stop,
}

/// The names in groups, of which each is to be done before the next.
pub async fn in_order(client: &Client, names: Vec<String>, order: Order) -> Result<Vec<Vec<String>>, Error> {
    if names.len() < 2 {
        return Ok(vec![names]);
    }
    let options = ContainerListOptions { all: true, ..ContainerListOptions::default() };
    let known = client.container_list(&options).await?;
    Ok(arrange(names, &known, order))
}

fn arrange(names: Vec<String>, known: &[ContainerSummary], order: Order) -> Vec<Vec<String>> {
    let nodes: Vec<Node<'_>> = names
        .iter()
        .map(|name| {
            // What isn't there is the engine's to tell.
            let Some(container) = find(known, name) else { return Node::default() };
            let label = |label: &str| container.labels.get(label).map(String::as_str);
            let own = container.names.first().map_or("", |name| name.trim_start_matches('/'));
            let partner = container.host_config.network_mode.strip_prefix("container:");
            Node {
                names: [&container.id, own],
                label: Labels::read(label),
                partners: partner.into_iter().collect(),
            }
        })
        .collect();
    let mut groups = dependencies::groups(&nodes);
    if order == Order::Stop {
        groups.reverse();
    }
    let named = |group: Vec<usize>| group.into_iter().map(|number| names[number].clone()).collect();
    groups.into_iter().map(named).collect()
}

/// As the engine finds it: by its id, its name, or the beginning of its id.
fn find<'a>(known: &'a [ContainerSummary], key: &str) -> Option<&'a ContainerSummary> {
    let named = |container: &&ContainerSummary| {
        container.names.iter().any(|name| name.trim_start_matches('/') == key.trim_start_matches('/'))
    };
    let by_id = known.iter().find(|container| container.id == key);
    by_id.or_else(|| known.iter().find(named)).or_else(|| known.iter().find(|c| c.id.starts_with(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str, name: &str, depends_on: &str) -> ContainerSummary {
        let labels = [("project", "shop"), ("service", name), ("depends_on", depends_on)];
        ContainerSummary {
            id: id.into(),
            names: vec![format!("/shop-{name}-1")].into(),
            labels: labels
                .into_iter()
                .map(|(label, value)| (format!("com.docker.compose.{label}"), value.to_owned()))
                .collect(),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn starts_follow_dependencies_and_stops_go_before_them() {
        let known = [service("aaaa", "web", "db:service_healthy:false"), service("bbbb", "db", "")];
        let names = || ["shop-web-1", "bb", "gone"].map(str::to_owned).to_vec();
        assert_eq!(arrange(names(), &known, Order::Start), [vec!["bb", "gone"], vec!["shop-web-1"]]);
        assert_eq!(arrange(names(), &known, Order::Stop), [vec!["shop-web-1"], vec!["bb", "gone"]]);
    }
}

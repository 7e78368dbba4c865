//! Which container depends on which: Compose's labels, and namespaces that are shared. For the engine, which starts many together, and
//! for commands on several containers. Pure.

use std::collections::HashMap;

/// What of a dependency is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    Started,
    Healthy,
}

/// One container, as far as the order is concerned.
#[derive(Clone, Debug, Default)]
pub struct Node<'a> {
    /// By which others name it: its id and its name.
    pub names: [&'a str; 2],
    pub label: Labels<'a>,
    /// Containers whose namespaces it joins, by id or name.
    pub partners: Vec<&'a str>,
}

/// Compose's labels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    pub project: Option<&'a str>,
    pub service: Option<&'a str>,
    /// `db:service_healthy:false,cache:service_started:true`.
    pub depends_on: Option<&'a str>,
}

impl<'a> Labels<'a> {
    pub fn read(label: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            project: label("com.docker.compose.project"),
            service: label("com.docker.compose.service"),
            depends_on: label("com.docker.compose.depends_on"),
        }
    }

    /// The services that it depends on.
    fn services(&self) -> impl Iterator<Item = (&'a str, Wanted)> {
        self.depends_on.unwrap_or_default().split(',').filter_map(|entry| {
            let mut parts = entry.split(':').map(str::trim);
            let service = parts.next().filter(|service| !service.is_empty())?;
            let healthy = parts.next() == Some("service_healthy");
            Some((service, if healthy { Wanted::Healthy } else { Wanted::Started }))
        })
    }
}

/// For each node the numbers of those that come before it. What would close a circle is left out: something has to be first.
pub fn among(nodes: &[Node<'_>]) -> Vec<Vec<(usize, Wanted)>> {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut by_service: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        by_name.extend(node.names.map(|name| (name, number)));
        if let (Some(project), Some(service)) = (node.label.project, node.label.service) {
            by_service.entry((project, service)).or_default().push(number);
        }
    }
    let mut edges: Vec<Vec<(usize, Wanted)>> = nodes
        .iter()
        .enumerate()
        .map(|(number, node)| {
            let project = node.label.project.unwrap_or_default();
            let services = node.label.services().flat_map(|(service, wanted)| {
                by_service.get(&(project, service)).into_iter().flatten().map(move |&on| (on, wanted))
            });
            let partners = node.partners.iter().filter_map(|name| by_name.get(name));
            let all = services.chain(partners.map(|&on| (on, Wanted::Started)));
            let mut all: Vec<(usize, Wanted)> = all.filter(|(on, _)| *on != number).collect();
            all.sort_unstable();
            all.dedup();
            all
        })
        .collect();
    break_circles(&mut edges);
    edges
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// On the way from the root to here.
    Open,
    Done,
}

/// The nodes in groups: those of a group depend on earlier groups only.
pub fn groups(nodes: &[Node<'_>]) -> Vec<Vec<usize>> {
    let before = among(nodes);
    let mut group_of: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut groups = Vec::new();
    while group_of.contains(&None) {
        let ready = |number: &usize| {
            group_of[*number].is_none() && before[*number].iter().all(|(on, _)| group_of[*on].is_some())
        };
        // Without circles there is always one.
        let group: Vec<usize> = (0..nodes.len()).filter(ready).collect();
        for &number in &group {
            group_of[number] = Some(groups.len());
        }
        groups.push(group);
    }
    groups
}

fn break_circles(edges: &mut [Vec<(usize, Wanted)>]) {
    let mut marks = vec![Mark::New; edges.len()];
    for root in 0..edges.len() {
        if marks[root] != Mark::New {
            continue;
        }
        // Node, and which of its edges is next; no recursion, as a chain may be long.
        let mut way = vec![(root, 0)];
        marks[root] = Mark::Open;
        while let Some((node, next)) = way.last_mut() {
            let (node, at) = (*node, *next);
            let Some(&(on, _)) = edges[node].get(at) else {
                marks[node] = Mark::Done;
                way.pop();
                continue;
            };
            match marks[on] {
                Mark::Open => drop(edges[node].remove(at)),
                Mark::Done => *next += 1,
                Mark::New => {
                    *next += 1;
                    marks[on] = Mark::Open;
                    way.push((on, 0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service<'a>(name: &'a str, depends_on: &'a str) -> Node<'a> {
        let label = Labels { project: Some("shop"), service: Some(name), depends_on: Some(depends_on) };
        Node { names: [name, name], label, partners: Vec::new() }
    }

    #[test]
    fn labels_and_shared_namespaces_make_the_order() {
        let mut sidecar = service("sidecar", "");
        sidecar.partners = vec!["web"];
        let nodes = [
            service("web", "db:service_healthy:false,cache:service_started:true,gone:service_started:false"),
            service("db", ""),
            service("cache", "db"),
            sidecar,
        ];
        assert_eq!(
            among(&nodes),
            [
                vec![(1, Wanted::Healthy), (2, Wanted::Started)],
                vec![],
                vec![(1, Wanted::Started)],
                vec![(0, Wanted::Started)]
            ]
        );
    }

    #[test]
    fn groups_follow_each_other() {
        let nodes =
            [service("web", "db,cache"), service("db", ""), service("cache", "db"), service("other", "")];
        assert_eq!(groups(&nodes), [vec![1, 3], vec![2], vec![0]]);
        assert_eq!(groups(&[service("a", "b"), service("b", "a")]).concat().len(), 2);
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn services_of_another_project_are_others() {
        let mut other = service("db", "");
        other.label.project = Some("forum");
        assert_eq!(among(&[service("web", "db"), other])[0], []);
    }

    #[test]
    fn a_circle_is_broken_and_the_rest_of_the_order_stays() {
        let nodes = [service("a", "b"), service("b", "c"), service("c", "a,d"), service("d", "")];
        let order = among(&nodes);
        assert_eq!(order.iter().map(Vec::len).sum::<usize>(), 3, "{order:?}");
        assert!(order[2].contains(&(3, Wanted::Started)));
        assert_eq!(among(&[service("self", "self")])[0], []);
    }
}

//! The PORTS column: published and exposed ports, neighbours joined into ranges.

/// One port of a container as the API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPort {
    pub ip: String,
    pub private: u16,
    pub public: u16,
    pub protocol: String,
}

/// Neighbouring ports of one address and protocol that map to themselves.
struct Group<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

/// Writes ports as `docker ps` does.
pub fn column(ports: &[ListedPort]) -> String {
    let mut sorted: Vec<&ListedPort> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private, &a.ip, a.public, &a.protocol).cmp(&(b.private, &b.ip, b.public, &b.protocol))
    });
    let mut written = Vec::new();
    let mut mapped = Vec::new();
    let mut open: Vec<Group<'_>> = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public != port.private {
            let address = host_port(&port.ip, &port.public.to_string());
            mapped.push(format!("{address}->{}/{}", port.private, port.protocol));
            continue;
        }
        let fresh = Group { ip: &port.ip, protocol: &port.protocol, first: port.private, last: port.private };
        match open.iter_mut().find(|group| group.ip == port.ip && group.protocol == port.protocol) {
            None => open.push(fresh),
            Some(group) if group.last.checked_add(1) == Some(port.private) => group.last = port.private,
            Some(group) => {
                written.push(group.text());
                *group = fresh;
            }
        }
    }
    written.extend(open.iter().map(Group::text));
    written.append(&mut mapped);
    written.join(", ")
}

impl Group<'_> {
    fn text(&self) -> String {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        if self.ip.is_empty() {
            return format!("{range}/{}", self.protocol);
        }
        format!("{}->{range}/{}", host_port(self.ip, &range), self.protocol)
    }
}

/// `address:port`, with brackets around IPv6.
pub fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16, protocol: &str) -> ListedPort {
        ListedPort { ip: ip.into(), private, public, protocol: protocol.into() }
    }

    #[test]
    fn neighbours_join_and_mappings_follow() {
        assert_eq!(column(&[]), "");
        assert_eq!(column(&[port("", 0, 80, "tcp")]), "80/tcp");
        assert_eq!(
            column(&[port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            column(&[
                port("", 0, 81, "tcp"),
                port("", 0, 80, "tcp"),
                port("", 0, 90, "tcp"),
                port("", 0, 53, "udp")
            ]),
            "80-81/tcp, 53/udp, 90/tcp"
        );
        assert_eq!(
            column(&[
                port("127.0.0.1", 80, 80, "tcp"),
                port("127.0.0.1", 81, 81, "tcp"),
                port("127.0.0.1", 99, 82, "tcp")
            ]),
            "127.0.0.1:80-81->80-81/tcp, 127.0.0.1:99->82/tcp"
        );
    }
}

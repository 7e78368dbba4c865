use super::*;
use crate::endpoint::Protocol;

fn intent() -> Intent {
    Intent {
        table: "corten-1a2b3c4d".into(),
        bridge: "corten-1a2b3c4d".into(),
        subnet: "172.30.0.0/16".parse().unwrap(),
        masquerade: true,
        inter_container: true,
    }
}

fn port(host_ip: [u8; 4]) -> PublishedPort {
    PublishedPort { container_port: 80, protocol: Protocol::Tcp, host_ip: host_ip.into(), host_port: 8080 }
}

#[test]
fn an_element_names_its_map_key_and_container() {
    let container = Ipv4Addr::new(172, 30, 0, 2);
    assert_eq!(
        element(&port([0; 4]), container).to_string(),
        "ports 0x060000001f900000 : 0xac1e000200500000"
    );
    let addressed = element(&port([127, 0, 0, 1]), container).to_string();
    assert_eq!(addressed, "addressed-ports 0x7f000001060000001f900000 : 0xac1e000200500000");
}

#[test]
fn elements_go_to_their_own_map() {
    let container = Ipv4Addr::new(172, 30, 0, 2);
    let elements = [element(&port([0; 4]), container), element(&port([127, 0, 0, 1]), container)];
    let table = table(&intent(), &elements);
    assert_eq!(table.maps.iter().map(|map| map.elements.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn the_settings_show_in_the_rules() {
    let text = |intent: &Intent| table(intent, &[]).to_string();
    let all = text(&intent());
    assert_eq!(all.matches("[ masq ]").count(), 3);
    assert_eq!(text(&Intent { masquerade: false, ..intent() }).matches("[ masq ]").count(), 2);
    let apart = text(&Intent { inter_container: false, ..intent() });
    assert_eq!(apart.matches("[ immediate drop ]").count(), all.matches("[ immediate drop ]").count() + 1);
}

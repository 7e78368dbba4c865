//! What is written is found again, and only that.

use std::collections::BTreeMap;
use std::io::Write;

use proptest::prelude::*;

use super::*;

fn open(content: &[u8]) -> io::Result<Names> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    Names::open(file.path())
}

fn v4(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))
}

#[test]
fn the_format_is_as_documented() {
    let mut names = Builder::default();
    names.address("Web", "10.0.0.2".parse().unwrap());
    names.address("web", "fd00::2".parse().unwrap());
    names.address("web-1", "10.0.0.3".parse().unwrap());
    names.pointer("10.0.0.2".parse().unwrap(), "Web.net");
    for bad in ["", ".", "a..b", "with space", "tab\there", &"x".repeat(64), &"y.".repeat(200)] {
        names.address(bad, "10.0.0.9".parse().unwrap());
    }
    let text = String::from_utf8(names.build("Net")).unwrap();
    assert_eq!(
        text,
        "corten-names-1\tnet\n2.0.0.10.in-addr.arpa\tPTR\tWeb.net\nweb\tA\t10.0.0.2\nweb\tAAAA\tfd00::2\nweb-1\tA\t10.0.0.3\n"
    );
}

#[test]
fn addresses_are_turned_round() {
    assert_eq!(reverse_name("172.30.0.2".parse().unwrap()), "2.0.30.172.in-addr.arpa");
    let zeros = "0.".repeat(24);
    assert_eq!(
        reverse_name("2001:db8::1".parse().unwrap()),
        format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", &zeros[..23 * 2])
    );
}

#[test]
fn many_addresses_of_one_name_are_all_found_up_to_the_bound() {
    let mut names = Builder::default();
    for n in 0..5000 {
        names.address("service", v4(n));
    }
    names.address("zzz", v4(1));
    let names = open(&names.build("net")).unwrap();
    assert_eq!(names.find(b"service").unwrap().v4.len(), RECORDS_MAX);
    assert_eq!(names.find(b"zzz").unwrap().v4.len(), 1);
    assert!(names.find(b"servic").unwrap().is_empty());
}

#[test]
fn a_file_that_is_none_is_refused() {
    for content in [&b""[..], b"corten-names-1", b"corten-names-2\tnet\n", b"\0\0\0\n"] {
        assert!(open(content).is_err(), "{content:?}");
    }
    assert!(open(b"corten-names-1\t\n").unwrap().find(b"a").unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Names close to each other, short and long, in files of many blocks.
    #[test]
    fn every_name_is_found_with_its_addresses(
        entries in prop::collection::vec(("[a-c]{1,3}([.-][a-c]{1,18}){0,3}", 0u32..50), 0..600),
        others in prop::collection::vec("[a-c]{1,4}", 0..20),
    ) {
        let mut names = Builder::default();
        let mut expected: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for (name, n) in &entries {
            names.address(name, v4(*n));
            expected.entry(name.clone()).or_default().insert(v4(*n));
        }
        let names = open(&names.build("net")).unwrap();
        prop_assert_eq!(&names.network, b"net");
        for name in expected.keys().chain(&others) {
            let found = names.find(name.as_bytes()).unwrap();
            let found: BTreeSet<IpAddr> = found.v4.into_iter().map(IpAddr::V4).collect();
            prop_assert_eq!(found, expected.get(name).cloned().unwrap_or_default(), "{}", name);
        }
    }

    #[test]
    fn a_torn_or_foreign_file_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..20_000), name in "[a-z]{1,5}") {
        let mut content = b"corten-names-1\tnet\n".to_vec();
        content.extend(bytes);
        if let Ok(names) = open(&content) {
            let _ = names.find(name.as_bytes());
        }
    }
}

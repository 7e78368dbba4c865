use super::*;
use proptest::prelude::*;

#[test]
fn lengths_are_patched_and_attributes_read_back() {
    let mut batch = Batch::new();
    batch.message(16, 0, &[1, 2, 3, 4]).string(3, "eth0").nested(18, |m| {
        m.string(1, "veth").u32(2, 7);
    });
    batch.seal(9, Some(0));
    let parsed = messages(&batch.bytes).unwrap();
    assert_eq!(parsed.len(), 1);
    assert_eq!((parsed[0].kind, parsed[0].flags, parsed[0].sequence), (16, NLM_F_REQUEST | NLM_F_ACK, 9));
    let body = &parsed[0].payload[4..];
    assert_eq!(text(attribute(body, 3).unwrap()), "eth0");
    let nested = attribute(body, 18).unwrap();
    assert_eq!(text(attribute(nested, 1).unwrap()), "veth");
    assert_eq!(attribute(nested, 2).unwrap(), 7u32.to_ne_bytes());
}

#[test]
fn loopback_is_found_and_a_missing_link_is_an_error_of_its_own_message() {
    let socket = Socket::open(Protocol::Route).unwrap();
    let mut ask = Batch::new();
    ask.message(18, 0, &[0; 16]).string(3, "lo");
    assert_eq!(socket.request(&mut ask).unwrap().len(), 1);
    let mut ask = Batch::new();
    ask.message(18, 0, &[0; 16]).string(3, "nosuchlink");
    assert_eq!(socket.request(&mut ask).unwrap_err().code(), Some(libc::ENODEV));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = attributes(&bytes).count();
        if let Ok(found) = messages(&bytes) {
            for message in found {
                let _ = error_code(&message);
                let _ = error_detail(&message);
            }
        }
    }
}

use corten_api::base64;
use proptest::prelude::*;

use super::*;

/// `/O=Herd/CN=build host`, self-signed.
const ONE: &str = "\
     MIIBnzCCAUWgAwIBAgIUDJ4rrxjDSvnY9TbBIdCql1e2xIgwCgYIKoZIzj0EAwIwJDENMAsGA1UECgwESGVyZDETMBEGA1UEAwwKYnVpbGQgaG\
     9zdDAgFw0yNjExMjExOTAwMTdaGA8yMTI2MTAyODE5MDAxN1owJDENMAsGA1UECgwESGVyZDETMBEGA1UEAwwKYnVpbGQgaG9zdDBZMBMGByqG\
     SM49AgEGCCqGSM49AwEHA0IABJ+8KDWG6BN/sDrhKfWvEejnGcdhTFAv8/kh7uuflVuYXginlqI3eD6FpXbT7BACyYRK0zrPxEoix6WxfCRP5L\
     +jUzBRMB0GA1UdDgQWBBTkd0th6m9k8w29C8SSi5AQtHSk9TAfBgNVHSMEGDAWgBTkd0th6m9k8w29C8SSi5AQtHSk9TAPBgNVHRMBAf8EBTAD\
     AQH/MAoGCCqGSM49BAMCA0gAMEUCIQCGPNpeIeo6uy9n6RDT7KXODhAnKnnTBcsl64p+Zl0wAQIgIjvXPoFLMU/W3Fwt3ECmJ5LnOVfTEacJkz\
     XT0eqvhrA=";

/// `/CN=a/CN=b`.
const TWO: &str = "\
     MIIBiDCCAS2gAwIBAgIUOTOiFJ8rQVXvwHXKYTwtFIiHAzcwCgYIKoZIzj0EAwIwGDEKMAgGA1UEAwwBYTEKMAgGA1UEAwwBYjAgFw0yNjExMj\
     ExOTAwMTdaGA8yMTI2MTAyODE5MDAxN1owGDEKMAgGA1UEAwwBYTEKMAgGA1UEAwwBYjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMWY1XyZ\
     cAuZCe+eTmpuipgE1UebfLz1VxuRq5f6W806QeP6BH/PDHnM3hfyc/X8IhaAiKanFZ7MeljwUqOY/UajUzBRMB0GA1UdDgQWBBSVqux+gX6wlw\
     SpvwskMoEaI5lqBTAfBgNVHSMEGDAWgBSVqux+gX6wlwSpvwskMoEaI5lqBTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCz\
     oEVRPCnPZo3xxn9SNWd4In/4LDiROODm7mmGThK5LwIhAJ1NZ4De/7lvqLoF4oYpgSd8QA5v8AZ9JL7HxW/lKQ/P";

/// `/O=Herd`.
const NONE: &str = "\
     MIIBdTCCARugAwIBAgIUc6GTtD3ecoUwD+NEAX6jjYHh34cwCgYIKoZIzj0EAwIwDzENMAsGA1UECgwESGVyZDAgFw0yNjExMjExOTAwMTdaGA\
     8yMTI2MTAyODE5MDAxN1owDzENMAsGA1UECgwESGVyZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNs4CFtieGiGe/iVSV7HFSvVSrS1+BIQ\
     ldW7rXQf5PY3/iquFr+BtXczwsr1NMYtd6Sclj0vROYShz4tseO4NXKjUzBRMB0GA1UdDgQWBBRaQtbNp8h3RZfE71LLpTTpwLOmYTAfBgNVHS\
     MEGDAWgBRaQtbNp8h3RZfE71LLpTTpwLOmYTAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIC7kN0hSt+8PqraTMhdhm+x3yST7\
     kShbDKozvsS/UXxjAiEA7lYc41XYKsyeVIh7HioP2SqP/BSQzBYFBuB99VnTc/Q=";

#[test]
fn the_one_common_name_is_read() {
    let name = |text: &str| common_name(&base64::decode(text).unwrap());
    assert_eq!(name(ONE).as_deref(), Some("build host"));
    assert_eq!((name(TWO), name(NONE)), (None, None));
}

#[test]
fn what_is_cut_off_is_nobody_s() {
    let whole = base64::decode(ONE).unwrap();
    for end in 0..whole.len() {
        assert_eq!(common_name(&whole[..end]), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(at in 0usize..400, byte: u8, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut whole = base64::decode(ONE).unwrap();
        let at = at % whole.len();
        whole[at] = byte;
        common_name(&whole);
        common_name(&bytes);
    }
}

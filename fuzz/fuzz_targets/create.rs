//! The body of `POST /containers/create` is read or refused, and what was read can be written and read again.
#![no_main]
use corten_api::container::ContainerCreateRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = corten_api::json::from_slice::<ContainerCreateRequest>(bytes) {
        let text = serde_json::to_vec(&request).expect("a request can be written");
        let again: ContainerCreateRequest = corten_api::json::from_slice(&text).expect("and read again");
        assert_eq!(again, request);
    }
});

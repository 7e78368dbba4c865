use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn normalises_as_docker_does() {
    let digest = format!("sha256:{HEX}");
    let table = [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox:x", "docker.io/library/busybox:x", "busybox:x"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest", "[2001:db8::1]:5000/app:latest"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g:latest", "a__b/c--d/e.f_g:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ];
    for (input, canonical, familiar) in table {
        let reference = Reference::parse(input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(reference.to_string(), canonical, "{input}");
        assert_eq!(reference.familiar(), familiar, "{input}");
        assert_eq!(Reference::parse(&reference.to_string()).as_ref(), Ok(&reference), "{input}");
    }
    let by_digest = Reference::parse(&format!("busybox@{digest}")).unwrap();
    assert_eq!(by_digest.to_string(), format!("docker.io/library/busybox@{digest}"));
    assert_eq!(by_digest.tag(), None);
    let both = Reference::parse(&format!("localhost:5000/busybox:1@{digest}")).unwrap();
    assert_eq!((both.tag(), both.digest().map(|d| d.to_string())), (Some("1"), Some(digest)));
}

#[test]
fn refuses_what_docker_refuses() {
    let table = [
        ("", "invalid reference format"),
        (":tag", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a-", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a@b", "invalid reference format"),
        ("host.:80/a", "invalid reference format"),
        ("host:x/a", "invalid reference format"),
        ("[::g]/a", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("localhost:5000/App:x", "invalid reference format: repository name (App) must be lowercase"),
        ("a@sha256:12", "invalid reference format: invalid checksum digest length: \"sha256:12\""),
        (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        (&"a".repeat(250), "repository name must not be more than 255 characters"),
        (&format!("a:{}", "t".repeat(129)), "invalid reference format"),
    ];
    for (input, message) in table {
        let error = Reference::parse(input).expect_err(input);
        assert_eq!(error.to_string(), message, "{input}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics_and_is_stable(text in "[a-zA-Z0-9_.:/@\\[\\]-]{0,40}") {
        if let Ok(reference) = Reference::parse(&text) {
            let canonical = reference.to_string();
            proptest::prop_assert_eq!(Reference::parse(&canonical).unwrap().to_string(), canonical);
        }
    }
}

#[test]
fn a_familiar_name_is_read_as_the_same_reference() {
    for text in
        ["busybox", "team/tool:1", "docker.io/quay.io/tool", "docker.io/localhost/tool", "quay.io/a/b"]
    {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference, "{text}");
    }
}

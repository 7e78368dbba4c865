use super::*;

fn parsed(source: &str) -> Dockerfile {
    parse(source).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(source: &str) -> String {
    parse(source).unwrap_err().first().text()
}

fn instructions(source: &str) -> Vec<Instruction> {
    let dockerfile = parsed(&format!("FROM scratch\n{source}"));
    dockerfile.stages[0].instructions.iter().map(|located| located.value.clone()).collect()
}

#[test]
fn stages_and_global_arguments() {
    let dockerfile = parsed(
        "# syntax=docker/dockerfile:1 extra\n# escape=`\nARG BASE=debian TAG\n\n\
         FROM --platform=$BUILDPLATFORM ${BASE}:$TAG AS Build\nRUN a `\n  # no\n  && b\nfrom build\n",
    );
    assert_eq!(dockerfile.directives.syntax.as_deref(), Some("docker/dockerfile:1 extra"));
    assert_eq!(dockerfile.directives.escape, Escape::Backtick);
    let args = &dockerfile.global_args[0].value.entries;
    assert_eq!((args[0].name.as_str(), args[0].default.as_deref()), ("BASE", Some("debian")));
    assert_eq!((args[1].name.as_str(), args[1].default.as_deref()), ("TAG", None));
    let [first, second] = dockerfile.stages.as_slice() else { panic!("{:?}", dockerfile.stages) };
    assert_eq!(first.from.value.image, "${BASE}:$TAG");
    assert_eq!(first.from.value.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!((first.name(), second.name()), (Some("build"), None));
    let run = &first.instructions[0];
    assert_eq!(run.span, Span { first_line: 6, last_line: 8, column: 1 });
    assert_eq!(run.original, "RUN a   && b");
    assert_eq!(second.from.keyword, "from");
}

#[test]
fn here_documents() {
    let found = instructions(
        "RUN 3<<ONE cat <<-'TWO' && x\none $A\nONE\n\ttwo\n\tTWO\nCOPY <<-a.txt <<\"b\" file /dir/\n\t$x\na.txt\nB\nb\nCMD x",
    );
    let [Instruction::Run(run), Instruction::Copy(copy), Instruction::Cmd(_)] = found.as_slice() else {
        panic!("{found:?}")
    };
    let document = |name: &str, content: &str, expand, chomp, descriptor| Document {
        name: name.to_owned(),
        content: content.to_owned(),
        expand,
        chomp,
        descriptor,
    };
    assert_eq!(
        run.command.documents,
        [document("ONE", "one $A\n", true, false, 3), document("TWO", "\ttwo\n", false, true, 0)]
    );
    assert_eq!(copy.transfer.sources, ["file"]);
    assert_eq!(
        copy.transfer.documents,
        [document("a.txt", "$x\n", true, true, 0), document("b", "B\n", false, false, 0)]
    );
}

#[test]
fn flags_are_typed() {
    let found = instructions(
        "RUN --mount=type=bind,from=base,target=/x --mount=type=cache,id=$ID --network=none --security=insecure make\n\
         COPY --from=0 --link --parents=false --exclude=*.o --exclude='a b' --chmod=u+x src /dst\n\
         ADD --keep-git-dir --unpack=false --checksum=sha256:00 https://x/y /z\n\
         HEALTHCHECK --interval=1m30s --retries=3 CMD [\"a\"]",
    );
    let [
        Instruction::Run(run),
        Instruction::Copy(copy),
        Instruction::Add(add),
        Instruction::Healthcheck(check),
    ] = found.as_slice()
    else {
        panic!("{found:?}")
    };
    assert_eq!(run.mounts[0].from.as_deref(), Some("base"));
    let mount = run.mounts[1].resolve(|value| Ok::<_, ()>(value.replace("$ID", "me"))).unwrap();
    assert_eq!((mount.kind, mount.id.as_deref(), mount.read_only), (MountType::Cache, Some("me"), false));
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    assert_eq!(copy.transfer.exclude, ["*.o", "a b"]);
    assert_eq!((copy.transfer.link, copy.parents, copy.from.as_deref()), (true, false, Some("0")));
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    assert_eq!((check.interval_ns, check.retries), (90_000_000_000, 3));
}

#[test]
fn refusals_are_in_dockers_words() {
    for (source, message) in [
        ("", "the Dockerfile cannot be empty"),
        ("# only\n", "file with no instructions"),
        ("ARG A", "dockerfile contains no stages to build"),
        ("RUN x", "no build stage in current context"),
        (
            "FROM x\nCOYP a b",
            "dockerfile parse error on line 2: unknown instruction: COYP (did you mean COPY?)",
        ),
        ("FROM x\nENV A", "ENV must have two arguments"),
        (
            "FROM x\nCOPY --form=a b c",
            "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
        ),
        ("FROM x\nRUN <<EOF\na", "unterminated heredoc"),
        ("FROM x y", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
    ] {
        assert_eq!(refused(source), message, "{source:?}");
    }
}

#[test]
fn errors_show_the_source() {
    let error = parse("FROM x\nRUN a \\\n  b\nCOPY --form=a b c\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "dockerfile parse error on line 4: unknown flag: --form (did you mean from?)\n 4 | COPY --form=a b c\n   |      ^^^^^^"
    );
}

#[test]
fn one_instruction_alone() {
    let located = parse_trigger("COPY . /app").unwrap();
    assert!(matches!(located.value, Instruction::Copy(_)));
    assert!(parse_trigger("RUN a\nRUN b").is_err());
    assert!(parse_trigger("FROM a").is_err());
    assert!(parse_trigger("").is_err());
}

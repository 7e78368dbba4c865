//! A corpus of Dockerfiles: what is read of valid ones, and what is said of wrong ones.
//!
//! `CORTEN_BLESS=1` writes what is found instead of comparing it.

use std::path::{Path, PathBuf};

use corten_build::dockerfile::{self, Dockerfile, Escape, Instruction, Located, parse, parse_trigger};

fn corpus(kind: &str) -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfiles").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "Dockerfile"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn compare(path: &Path, extension: &str, found: &str) {
    let expected = path.with_extension(extension);
    if std::env::var_os("CORTEN_BLESS").is_some() {
        return std::fs::write(expected, found).unwrap();
    }
    let known = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(found, known, "{}", path.display());
}

fn outline(dockerfile: &Dockerfile) -> String {
    let mut out = format!("{:?}\n", dockerfile.directives);
    for located in &dockerfile.global_args {
        out.push_str(&line(&located.value, located));
    }
    for stage in &dockerfile.stages {
        out.push_str(&line(&stage.from.value, &stage.from));
        for located in &stage.instructions {
            out.push_str(&line(&located.value, located));
        }
    }
    out
}

fn line<T>(value: &impl std::fmt::Debug, located: &Located<T>) -> String {
    format!("{}-{} {} {value:?}\n", located.span.first_line, located.span.last_line, located.keyword)
}

#[test]
fn valid_ones_are_read() {
    for (path, source) in corpus("valid") {
        let dockerfile = parse(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        compare(&path, "outline", &outline(&dockerfile));
    }
}

#[test]
fn wrong_ones_are_refused_in_dockers_words() {
    for (path, source) in corpus("wrong") {
        let error = parse(&source).expect_err(&path.display().to_string());
        compare(&path, "expected", &format!("{error}\n"));
    }
}

/// What history shows of an instruction is the instruction.
#[test]
fn an_instruction_is_read_again_from_its_own_text() {
    for (path, source) in corpus("valid") {
        let dockerfile = parse(&source).unwrap();
        if dockerfile.directives.escape != Escape::Backslash {
            continue;
        }
        for located in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
            if has_documents(&located.value) {
                continue;
            }
            let again = parse_trigger(&located.original).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again.value, located.value, "{}", path.display());
            assert_eq!(again.original, located.original);
        }
    }
}

fn has_documents(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Run(run) => !run.command.documents.is_empty(),
        Instruction::Copy(copy) => !copy.transfer.documents.is_empty(),
        Instruction::Onbuild(onbuild) => onbuild.expression.contains('\n'),
        _ => false,
    }
}

/// A trigger brings its here-document along.
#[test]
fn a_trigger_with_a_document_is_read_again() {
    let source = "FROM a\nONBUILD RUN <<EOF\necho $later\nEOF\n";
    let dockerfile = parse(source).unwrap();
    let Instruction::Onbuild(onbuild) = &dockerfile.stages[0].instructions[0].value else { panic!() };
    let trigger = parse_trigger(&onbuild.expression).unwrap();
    let Instruction::Run(run) = trigger.value else { panic!("{trigger:?}") };
    assert_eq!(run.command.documents[0].content, "echo $later\n");
}

#[test]
fn long_sources_take_linear_time() {
    let limit = std::time::Duration::from_secs(20);
    let start = std::time::Instant::now();
    let many = format!("FROM a\n{}", "RUN echo \"$A\" && b\nENV A=1 B=2\n".repeat(150_000));
    assert_eq!(parse(&many).unwrap().stages[0].instructions.len(), 300_000);
    let continued = format!("FROM a\nRUN {}x\n", "a \\\n".repeat(1_000_000));
    assert!(parse(&continued).is_ok());
    let wrong = "x\n".repeat(1_000_000);
    assert!(parse(&wrong).unwrap_err().iter().count() <= 21);
    let onbuild = format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(8_000));
    assert!(parse(&onbuild).is_err());
    let document = format!("FROM a\nRUN <<EOF\n{}EOF\n", "text <<EOF $A\n".repeat(500_000));
    assert!(parse(&document).is_ok());
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
}

#[test]
fn a_line_has_dockers_bound() {
    let line = |length: usize| format!("FROM a\nRUN {}\n", "x".repeat(length - 4));
    assert!(parse(&line(65_535)).is_ok());
    let error = parse(&line(65_536)).unwrap_err();
    assert_eq!(error.first().text(), "dockerfile line greater than max allowed size of 65535");
    assert_eq!(error.first().kind, dockerfile::Kind::Limit);
}

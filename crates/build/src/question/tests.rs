use std::collections::BTreeMap;

use corten_image::{ImageConfig, Platform};
use serde_json::Value;

use super::*;
use crate::request::NamedContext;

const SAMPLE: &str = "\
ARG BASE=busybox
# tools makes the tools
FROM $BASE AS tools
# LEVEL how much
ARG LEVEL=3
RUN --mount=type=secret,id=key,required --mount=type=cache,target=/cache true
FROM busybox as last
ARG OTHER=$LEVEL
RUN --mount=type=ssh true
COPY --from=tools /x /x
CMD echo hi
";

fn definition(text: &str) -> Definition {
    Definition { name: "Dockerfile".into(), text: text.into(), ignore: None }
}

fn ask(question: Question, text: &str, options: &Options) -> (Answer, Value) {
    let answer = question.answer(&definition(text), options, &|_, _| None).unwrap();
    let value = serde_json::from_str(&answer.json).unwrap();
    (answer, value)
}

#[test]
fn targets_are_listed() {
    let (answer, json) = ask(Question::Targets, SAMPLE, &Options::default());
    assert_eq!(
        answer.text,
        "TARGET           DESCRIPTION\ntools            makes the tools\nlast (default)\n"
    );
    assert_eq!(json["targets"][0]["base"], "$BASE");
    assert_eq!(json["targets"][1]["default"], true);
    assert_eq!(json["targets"][1]["location"]["ranges"][0]["start"]["line"], 7);
}

#[test]
fn an_outline_has_what_the_target_needs_and_no_more() {
    let options =
        Options { build_args: BTreeMap::from([("LEVEL".into(), "9".into())]), ..Options::default() };
    let (answer, json) = ask(Question::Outline, SAMPLE, &options);
    let names: Vec<&str> =
        json["args"].as_array().unwrap().iter().map(|arg| arg["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["BASE", "LEVEL", "OTHER"]);
    assert_eq!((&json["args"][0]["value"], &json["args"][1]["value"]), (&"busybox".into(), &"9".into()));
    assert_eq!(json["secrets"][0]["name"], "key");
    assert_eq!(json["secrets"][0]["required"], true);
    assert_eq!(json["ssh"][0]["name"], "default");
    assert_eq!(json["cache"][0]["ID"], "/cache");
    for line in ["TARGET:        last", "LEVEL       9         how much", "key      true", "CACHE MOUNT"] {
        assert!(answer.text.contains(line), "{line}: {}", answer.text);
    }
    let options = Options { target: "tools".into(), ..Options::default() };
    let (_, json) = ask(Question::Outline, SAMPLE, &options);
    assert_eq!(json["description"], "makes the tools");
    assert!(json.get("ssh").is_none());
    let options = Options { target: "nowhere".into(), ..Options::default() };
    assert!(Question::Outline.answer(&definition(SAMPLE), &options, &|_, _| None).is_err());
}

#[test]
fn a_lint_shows_what_it_found() {
    let (answer, json) = ask(Question::Lint, SAMPLE, &Options::default());
    assert_eq!((answer.warnings, answer.has_error), (2, false));
    assert_eq!(json["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(json["warnings"][1]["location"]["ranges"][0]["end"]["line"], 11);
    for line in ["WARNING: FromAsCasing - https://", "   7 | >>> FROM busybox as last", "Dockerfile:11"] {
        assert!(answer.text.contains(line), "{line}: {}", answer.text);
    }
    let skip = "skip=FromAsCasing,JSONArgsRecommended";
    let options = Options {
        build_args: BTreeMap::from([("BUILDKIT_DOCKERFILE_CHECK".into(), skip.into())]),
        ..Options::default()
    };
    assert_eq!(ask(Question::Lint, SAMPLE, &options).0.warnings, 0);
    let none = ask(Question::Lint, "FROM busybox\n", &Options::default()).0;
    assert_eq!((none.warnings, none.text.as_str()), (0, ""));
}

#[test]
fn what_is_wrong_is_an_answer_of_a_lint() {
    let (answer, json) = ask(Question::Lint, "FROM busybox\nFLY away\n", &Options::default());
    assert!(answer.has_error && answer.text.contains(">>> FLY away"), "{}", answer.text);
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
    assert!(Question::Targets.answer(&definition("FLY away"), &Options::default(), &|_, _| None).is_err());
    let options = Options { target: "nowhere".into(), ..Options::default() };
    assert!(ask(Question::Lint, "FROM busybox\n", &options).0.has_error);
}

#[test]
fn a_lint_knows_images_that_are_here() {
    let Platform { os, architecture, .. } = Platform::host();
    let mut config = ImageConfig { os, architecture, ..ImageConfig::default() };
    config.config.env = vec!["HOME=/".into()];
    let find = |name: &str, _: &Platform| (name == "here").then(|| config.clone());
    let lint = |text: &str, options: &Options| {
        let answer = Question::Lint.answer(&definition(text), options, &find).unwrap();
        let value: Value = serde_json::from_str(&answer.json).unwrap();
        value["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w["detail"].as_str().unwrap().to_owned())
            .collect()
    };
    let found: Vec<String> = lint("FROM here\nENV A=$HOEM\nFROM there\nENV A=$B\n", &Options::default());
    assert_eq!(found, ["Usage of undefined variable '$HOEM' (did you mean $HOME?)"]);
    // A named context takes the place of images and stages.
    let contexts = |context| BTreeMap::from([("there".to_owned(), context)]);
    let image = Options { contexts: contexts(NamedContext::Image("here".into())), ..Options::default() };
    let found: Vec<String> = lint("FROM there\nENV A=$HOME B=$C\n", &image);
    assert_eq!(found, ["Usage of undefined variable '$C'"]);
    let files = Options { contexts: contexts(NamedContext::Tree("x".into())), ..Options::default() };
    let found: Vec<String> = lint("FROM here AS there\nFROM there\nENV A=$HOME\n", &files);
    assert_eq!(found, ["Usage of undefined variable '$HOME'"]);
    // Of a target what it needs is looked at.
    let target = Options { target: "made".into(), ..Options::default() };
    let text = "FROM here AS made\nENV A=$X\nFROM here AS other\nENV A=$Y\n";
    let found: Vec<String> = lint(text, &target);
    assert_eq!(found, ["Usage of undefined variable '$X'"]);
}

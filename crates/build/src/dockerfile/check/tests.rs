use super::*;
use crate::dockerfile::parse;

/// All stages start from the same base, but for those that start from another stage or nothing.
fn found(source: &str, ignore: Option<&Ignore>, base: Option<Base>) -> Vec<(u32, String)> {
    let dockerfile = parse(source).unwrap_or_else(|error| panic!("{error}"));
    let outside = dockerfile.stages.iter().enumerate().filter(|(index, stage)| {
        let image = &stage.from.value.image;
        image != "scratch" && dockerfile.find_stage(image, *index).is_none()
    });
    let bases = outside.map(|(index, _)| (index, base.clone())).collect();
    let platform = Platform::new("linux", "amd64", None);
    let circumstances = Circumstances {
        options: None,
        build_args: &BTreeMap::new(),
        target: "",
        build_platform: &platform,
        target_platform: &platform,
        ignore,
        stages: None,
        bases: &bases,
    };
    let warnings = check(&dockerfile, &circumstances).unwrap();
    warnings.iter().map(|at| (at.span.first_line, format!("{}: {}", at.rule.name, at.detail))).collect()
}

fn debian() -> Option<Base> {
    Some(Base { env: vec!["PATH=/bin".to_owned(), "LANG=C".to_owned()], ..Base::default() })
}

fn assert_found(source: &str, expected: &[(u32, &str)]) {
    let found = found(source, None, debian());
    let found: Vec<(u32, &str)> = found.iter().map(|(line, text)| (*line, text.as_str())).collect();
    assert_eq!(found, expected, "{source}");
}

#[test]
fn of_the_text() {
    assert_found(
        "FROM a as Build\nrun x\nMAINTAINER me\nRUN a \\\n\n b\nFROM a AS build\nFROM a AS context\n",
        &[
            (1, "StageNameCasing: Stage name 'Build' should be lowercase"),
            (1, "FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
            (
                2,
                "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
            ),
            (3, "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"),
            (6, "NoEmptyContinuation: Empty continuation line"),
            (7, "DuplicateStageName: Duplicate stage name \"build\", stage names should be unique"),
            (8, "ReservedStageName: Stage name should not use the same name as reserved stage \"context\""),
        ],
    );
    let described = "# check=experimental=all\n# other\nARG A\n# A right\nARG A B\nFROM a\n";
    let expected =
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# A <description>`";
    assert_found(described, &[(3, expected)]);
    assert_found("# other\nARG A\nFROM a\n", &[]);
}

#[test]
fn of_from() {
    assert_found(
        "ARG BASE\nARG TAG=1\nFROM $BASE AS one\nFROM a:$TGA\nFROM --platform=$TARGETPLATFORM a\n\
         FROM --platform=linux/amd64 a\nFROM --platform=linux/amd64 a AS x-amd64\nFROM --platform=$BUILDPLATFORM a\n",
        &[
            (
                3,
                "InvalidDefaultArgInFrom: Default value for ARG $BASE results in empty or invalid base image name",
            ),
            (
                4,
                "InvalidDefaultArgInFrom: Default value for ARG a:$TGA results in empty or invalid base image name",
            ),
            (4, "UndefinedArgInFrom: FROM argument 'TGA' is not declared (did you mean TAG?)"),
            (
                5,
                "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            ),
            (
                6,
                "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\"",
            ),
        ],
    );
}

#[test]
fn of_variables() {
    assert_found(
        "ARG G=1\nFROM a AS b\nARG G N\nENV A=$G B=$N C=$LAGN\nWORKDIR x$A\nWORKDIR y\nFROM b\nRUN echo $anything\nLABEL x=$A y=$C z=$Q\n\
         COPY <<D /d\n$QQ \\$R\nD\nENV KEY v\nENV TOKEN_FILE=x MY_token=y\nARG PUBLIC_KEY PASSWORD\n",
        &[
            (4, "UndefinedVar: Usage of undefined variable '$LAGN' (did you mean $LANG?)"),
            (
                5,
                "WorkdirRelativePath: Relative workdir \"x1\" can have unexpected results if the base image changes",
            ),
            (9, "UndefinedVar: Usage of undefined variable '$Q' (did you mean $A?)"),
            (10, "UndefinedVar: Usage of undefined variable '$QQ' (did you mean $A?)"),
            (
                13,
                "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            ),
            (
                13,
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"KEY\")",
            ),
            (
                14,
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"MY_token\")",
            ),
            (
                15,
                "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"PASSWORD\")",
            ),
        ],
    );
    // Of a base that nobody knows no variable can be missing.
    assert!(found("FROM a\nENV A=$B\n", None, None).is_empty());
    assert_eq!(found("FROM scratch\nENV A=$B\n", None, None).len(), 1);
}

#[test]
fn of_what_a_base_has_for_others() {
    let base = Base {
        on_build: ["ARG LEVEL=1", "ENV KIND=$LEVEL", "WORKDIR src", "ENV OTHER=$NOWHERE"]
            .map(str::to_owned)
            .into(),
        ..Base::default()
    };
    let source = "FROM a AS b\nENV A=$KIND B=$LEVEL\nWORKDIR $C\nONBUILD ENV C=1\nFROM b\nENV D=$C E=$F\n";
    let undefined =
        |name: &str| format!("UndefinedVar: Usage of undefined variable '${name}' (did you mean $A?)");
    assert_eq!(found(source, None, Some(base)), [(3, undefined("C")), (6, undefined("F"))]);
}

#[test]
fn of_what_is_run_and_exposed() {
    let json = |name: &str| {
        format!(
            "JSONArgsRecommended: JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        )
    };
    let twice = "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used";
    assert_found(
        "FROM a\nCMD a\nENTRYPOINT b\nSHELL [\"c\"]\nCMD d\nEXPOSE 80/TCP 1.2.3.4:81:81\n",
        &[
            (2, &json("CMD")),
            (2, twice),
            (3, &json("ENTRYPOINT")),
            (
                6,
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:81:81'",
            ),
            (6, "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
        ],
    );
}

#[test]
fn of_what_is_copied() {
    let source = "FROM a AS b\nCOPY out/x . /\nADD http://x/y out /\nCOPY --from=b out /\n";
    let ignore = Ignore::parse("out\n").unwrap();
    let detail = |verb: &str, path: &str| {
        format!("CopyIgnoredFile: Attempting to {verb} file \"{path}\" that is excluded by .dockerignore")
    };
    assert_eq!(
        found(source, Some(&ignore), debian()),
        [(2, detail("Copy", "out/x")), (3, detail("Add", "out"))]
    );
    let taken_back = Ignore::parse("out\n!out/x\n").unwrap();
    assert!(found(source, Some(&taken_back), debian()).is_empty());
    let everything = Ignore::parse("**\n").unwrap();
    assert_eq!(found("FROM a\nCOPY . /\n", Some(&everything), debian()), [(2, detail("Copy", "."))]);
}

#[test]
fn of_the_bases_platform() {
    let arm = Platform::new("linux", "arm64", None);
    let base = Some(Base { platform: Some(arm), ..Base::default() });
    let detail = "InvalidBaseImagePlatform: Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build";
    assert_eq!(found("FROM a\n", None, base.clone()), [(1, detail.to_owned())]);
    let detail = detail.replace("linux/amd64", "linux/riscv64");
    let found = found("ARG P=linux/riscv64\nFROM --platform=$P a\n", None, base);
    assert_eq!(found, [(2, detail)]);
}

#[test]
fn switched_off() {
    assert_found("# check=skip=all\nFROM a AS B\n", &[]);
    assert_found("# check=skip=FromAsCasing,StageNameCasing\nFROM a as B\n", &[]);
    assert_found("FROM a\n# check=skip=JSONArgsRecommended\nCMD x\n", &[]);
    assert!(CheckOptions::parse("skip=a;error=true").unwrap().error);
    for (text, message) in [
        ("x", "failed to parse check options: invalid check option \"x\""),
        ("x=y", "failed to parse check options: invalid check option \"x\""),
        (
            "error=x",
            "failed to parse check options: failed to parse check option \"error=x\": strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
    ] {
        assert_eq!(CheckOptions::parse(text).unwrap_err().to_string(), message);
    }
}

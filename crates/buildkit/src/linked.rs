//! Definitions that stand for what a build makes. A client takes one from the answer to one build's `Solve` and hands it to another's, as
//! an input. Ours have no graph: one source operation, by which this engine knows its own build again.

use crate::wire::ops::{Definition, Input, Op, OpMetadata, SourceOp};
use corten_image::Digest;
use prost::Message;
use std::collections::BTreeMap;

const SCHEME: &str = "corten-build://";

/// The definition of what a build has promised under a name.
pub fn definition(build: &str, wish: &str) -> Definition {
    let identifier = format!("{SCHEME}{build}/{wish}");
    let about = OpMetadata { description: BTreeMap::from([("llb.customname".into(), identifier.clone())]) };
    let source = Op { inputs: Vec::new(), source: Some(SourceOp { identifier }) }.encode_to_vec();
    let digest = Digest::of(&source).to_string();
    let metadata = BTreeMap::from([(digest.clone(), about)]);
    let result = Op { inputs: vec![Input { digest, index: 0 }], source: None };
    Definition { def: vec![source, result.encode_to_vec()], metadata }
}

/// The build and the name in one of ours; none where it is something else.
pub fn named(definition: &Definition) -> Option<(String, String)> {
    let [source, result] = &definition.def[..] else { return None };
    let [Input { digest, index: 0 }] = &Op::decode(&result[..]).ok()?.inputs[..] else { return None };
    if *digest != Digest::of(source).to_string() {
        return None;
    }
    let SourceOp { identifier } = Op::decode(&source[..]).ok()?.source?;
    // Of the two the build's is the client's choice.
    let (build, wish) = identifier.strip_prefix(SCHEME)?.rsplit_once('/')?;
    Some((build.to_owned(), wish.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_definitions_are_known_again() {
        let own = definition("a/b", "wish-0");
        assert_eq!(named(&own), Some(("a/b".to_owned(), "wish-0".to_owned())));
        // Clients hand on what they know of it.
        let decoded = Definition::decode(&own.encode_to_vec()[..]).unwrap();
        assert_eq!(named(&decoded), named(&own));
    }

    #[test]
    fn others_are_none_of_ours() {
        let own = definition("build", "wish-0");
        let image = Op {
            inputs: Vec::new(),
            source: Some(SourceOp { identifier: "docker-image://docker.io/library/busybox".into() }),
        };
        let image = image.encode_to_vec();
        let digest = Digest::of(&image).to_string();
        let result = Op { inputs: vec![Input { digest, index: 0 }], source: None };
        for def in [
            vec![],
            vec![vec![0xff]; 2],
            vec![own.def[0].clone()],
            vec![own.def[0].clone(), own.def[0].clone()],
            vec![image.clone(), own.def[1].clone()],
            vec![image.clone(), result.encode_to_vec()],
            [own.def.clone(), own.def.clone()].concat(),
        ] {
            assert_eq!(named(&Definition { def, metadata: BTreeMap::new() }), None);
        }
    }
}

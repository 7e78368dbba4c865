//! The data a template walks over: JSON with its order kept, and with structs told from maps.
//!
//! Go's templates treat a missing struct field as an error and a missing map key as "no value". JSON has lost that
//! difference, so it is rebuilt here from the field names of the Engine API. Knows nothing of syntax or printing.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// One value inside a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil(Nil),
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Object(Object),
    /// A method with one argument, like `.Label "key"` on a row of a listing.
    Lookup(BTreeMap<String, String>),
}

/// What a missing value would be if it were there: Go prints `<no value>`, `<nil>`, `[]` and `map[]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nil {
    Unknown,
    Pointer,
    List,
    Map,
}

/// Fields in the order in which the engine sent them.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub kind: Kind,
    pub fields: Vec<(String, Value)>,
}

/// What an object is on the other side: Go prints, orders and checks the two differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Struct,
    Map,
    /// A row of a listing: a struct of which every field is known, so that a misspelt one is always told.
    Row,
}

/// Fields of the Engine API that hold maps; every other object is a struct.
const MAP_FIELDS: &[&str] = &[
    "Annotations",
    "Attributes",
    "Config",
    "Containers",
    "Data",
    "Details",
    "DriverOpts",
    "ExposedPorts",
    "IPAMConfig",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Fields that hold lists, for when they are null.
const LIST_FIELDS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
    "Warnings",
];

/// Pointers, which are null or left out when there is nothing.
const POINTER_FIELDS: &[&str] = &[
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "UsageData",
];

/// Maps and lists that the engine leaves out when they are empty.
const OMITTED_COLLECTIONS: &[(&str, Nil)] = &[
    ("Annotations", Nil::Map),
    ("ExposedPorts", Nil::Map),
    ("Manifests", Nil::List),
    ("Mounts", Nil::List),
    ("OnBuild", Nil::List),
    ("Shell", Nil::List),
    ("Status", Nil::Map),
    ("StorageOpt", Nil::Map),
    ("Sysctls", Nil::Map),
    ("Tmpfs", Nil::Map),
    ("Volumes", Nil::Map),
    ("Warnings", Nil::List),
];

/// Texts and truths that the engine leaves out when they are empty.
const OMITTED_TEXTS: &[&str] = &[
    "Author",
    "Comment",
    "CreatedAt",
    "From",
    "Id",
    "MacAddress",
    "OsVersion",
    "Parent",
    "Runtime",
    "Scope",
    "StopSignal",
    "Variant",
];
const OMITTED_TRUTHS: &[&str] = &["ArgsEscaped", "Experimental", "NetworkDisabled"];

impl Object {
    /// Finds a field by its exact name, then by its name without regard to case (`.ID` finds `Id`).
    pub fn get(&self, name: &str) -> Option<&Value> {
        let exact = self.fields.iter().find(|(key, _)| key == name);
        let found = match self.kind {
            Kind::Map => exact,
            Kind::Struct | Kind::Row => {
                exact.or_else(|| self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
            }
        };
        found.map(|(_, value)| value)
    }

    /// The fields in printing order: maps by key, structs as declared.
    pub fn ordered(&self) -> Vec<(&str, &Value)> {
        let mut fields: Vec<_> = self.fields.iter().map(|(key, value)| (key.as_str(), value)).collect();
        if self.kind == Kind::Map {
            fields.sort_by_key(|(key, _)| *key);
        }
        fields
    }
}

/// The value of a field that the engine leaves out when it is empty; none for any other name.
pub fn omitted(name: &str) -> Option<Value> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    if POINTER_FIELDS.iter().any(is) {
        return Some(Value::Nil(Nil::Pointer));
    }
    if let Some((_, nil)) = OMITTED_COLLECTIONS.iter().find(|(known, _)| is(known)) {
        return Some(Value::Nil(*nil));
    }
    if OMITTED_TEXTS.iter().any(is) {
        return Some("".into());
    }
    OMITTED_TRUTHS.iter().any(is).then_some(Value::Bool(false))
}

/// What a null stands for in the field `name`.
fn null(name: &str) -> Value {
    let kind = if LIST_FIELDS.contains(&name) || is_port(name) {
        Nil::List
    } else if MAP_FIELDS.contains(&name) {
        Nil::Map
    } else if POINTER_FIELDS.contains(&name) {
        Nil::Pointer
    } else {
        Nil::Unknown
    };
    Value::Nil(kind)
}

/// Whether this is the key of a port, `80/tcp`, whose bindings may be missing.
fn is_port(name: &str) -> bool {
    name.rsplit_once('/').is_some_and(|(_, protocol)| matches!(protocol, "tcp" | "udp" | "sctp"))
}

impl Value {
    /// A struct-like row for listings. Docker's rows are written as JSON by field name, so they are sorted here.
    pub fn row<K: Into<String>>(fields: impl IntoIterator<Item = (K, Value)>) -> Value {
        let mut fields: Vec<(String, Value)> =
            fields.into_iter().map(|(key, value)| (key.into(), value)).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Value::Object(Object { kind: Kind::Row, fields })
    }

    /// A map with string values.
    pub fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
        Value::Object(Object { kind: Kind::Map, fields: entries.into_iter().collect() })
    }

    /// Reads a JSON document.
    pub fn from_json(text: &[u8]) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Turns anything serialisable into template data.
    pub fn from_serialize(value: &impl Serialize) -> Result<Value, serde_json::Error> {
        Value::from_json(&serde_json::to_vec(value)?)
    }

    /// Go's notion of truth: everything but the zero values and empty collections.
    pub fn truth(&self) -> bool {
        match self {
            Value::Nil(_) => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(value) => !value.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Object(object) => object.kind != Kind::Map || !object.fields.is_empty(),
            Value::Lookup(_) => true,
        }
    }

    /// The word for this value's type in error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil(_) => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Object(Object { kind: Kind::Map, .. }) => "map",
            Value::Object(_) => "object",
            Value::Lookup(_) => "method",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nil(_) => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(value) => serializer.serialize_str(value),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Object(object) => {
                let mut map = serializer.serialize_map(None)?;
                for (key, value) in object.ordered() {
                    if !matches!(value, Value::Lookup(_)) {
                        map.serialize_entry(key, value)?;
                    }
                }
                map.end()
            }
            Value::Lookup(_) => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil(Nil::Unknown))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, mut value)) = access.next_entry::<String, Value>()? {
            match &mut value {
                Value::Object(object) if is_map(&key, object) => object.kind = Kind::Map,
                Value::Nil(_) => value = null(&key),
                _ => {}
            }
            fields.push((key, value));
        }
        Ok(Value::Object(Object { kind: Kind::Struct, fields }))
    }
}

/// `Config` names both the container's settings (a struct) and a log driver's options (a map): look inside.
fn is_map(key: &str, object: &Object) -> bool {
    if key == "Config" {
        return object.fields.iter().all(|(_, value)| matches!(value, Value::Text(_)));
    }
    MAP_FIELDS.contains(&key)
}

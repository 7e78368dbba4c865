//! Solving: from a request by way of its client's wishes to an outcome.

use super::{Controller, subrequests};
use crate::asker::{Asker, Client, Sessions};
use crate::attributes::Attributes;
use crate::bridge::{self, Inputs, Wish};
use crate::builder::{self, Built, Image, Manifest, Past};
use crate::failure::{Failure, Source, status};
use crate::image_form;
use crate::jobs::{Job, Running};
use crate::linked;
use crate::output::{Output, OutputError};
use crate::promise::Promise;
use crate::session::{Session, upload_path};
use crate::step::Step;
use crate::wire::control::{CacheOptions, CacheOptionsEntry, SolveRequest, SolveResponse};
use crate::wire::gateway;
use crate::wire::ops::Definition;
use corten_build::{
    CacheOptionError, CachePlace, CacheSource, CacheTarget, EVENTS_MAX, Error, ImageForm, Options, Question,
    RemoteContext, Teller, base64,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tonic::{Code, Status};

impl Controller {
    /// Builds what a client asks for at once, or what it returns over the bridge. Dropped, it ends the build.
    pub(super) async fn solve(&self, request: SolveRequest) -> Result<SolveResponse, Status> {
        // Begun before it is looked at: the client's other calls about it end with it, and don't wait for it.
        let job = Job { session: request.session.clone(), ..Job::default() };
        let running = self.jobs.begin(&request.r#ref, job)?;
        self.solve_as(&running, request).await
    }

    /// Builds what is asked for as a build that has begun.
    pub(super) async fn solve_as(
        &self,
        running: &Running,
        request: SolveRequest,
    ) -> Result<SolveResponse, Status> {
        refuse_unsupported(&request)?;
        let entitlements = Entitlements::parse(&request.entitlements)?;
        let (outputs, form) = outputs(&request)?;
        let (imports, exports) = caches(request.cache.unwrap_or_default())?;
        let wish = match request.frontend.as_str() {
            "" => self.returned(&running.job).await?,
            frontend => Some(self.wish(frontend, &request.frontend_attrs, &request.frontend_inputs)?),
        };
        let Some(mut wish) = wish else { return Ok(SolveResponse::default()) };
        let options = &mut wish.attributes.options;
        add_sources(options, imports);
        options.cache_to = exports;
        options.allows_host_network = entitlements.host_network;
        options.form = form;
        if let Some(question) = wish.attributes.question.clone() {
            let answer = self.ask(&request.r#ref, &running.job, &question, wish.attributes).await?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let exporter_response = answer.into_iter().map(|(name, bytes)| (name, text(bytes))).collect();
            return Ok(SolveResponse { exporter_response });
        }
        self.build(&request.r#ref, &running.job, wish, outputs).await
    }

    /// A front end that a client asks to be run: a reference to what it would yield.
    pub(super) async fn bridge_solve(
        &self,
        build: &str,
        job: &Job,
        request: gateway::SolveRequest,
    ) -> Result<gateway::SolveResponse, Status> {
        if is_there(request.definition.as_ref()) {
            return Err(no_llb());
        }
        if request.frontend.is_empty() {
            return Ok(answer(&request, String::new(), None));
        }
        let mut wish = self.wish(&request.frontend, &request.frontend_opt, &request.frontend_inputs)?;
        add_sources(&mut wish.attributes.options, sources(&request.cache_imports)?);
        if let Some(question) = wish.attributes.question.clone() {
            let metadata = self.ask(build, job, &question, wish.attributes).await?;
            let result = Some(gateway::Outcome { refs: None, metadata });
            return Ok(gateway::SolveResponse { ref_deprecated: String::new(), result });
        }
        let reference = job.bridge.wish(wish)?;
        let definition = linked::definition(build, &reference);
        Ok(answer(&request, reference, Some(definition)))
    }

    /// What a client wants, with what other builds make for it.
    fn wish(
        &self,
        frontend: &str,
        attributes: &BTreeMap<String, String>,
        inputs: &BTreeMap<String, Definition>,
    ) -> Result<Wish, Status> {
        let attributes = Attributes::parse(frontend, attributes).map_err(Failure::from)?;
        let promised =
            |(name, definition): (&String, _)| Ok((name.clone(), self.promised(name, definition)?));
        let inputs = inputs.iter().map(promised).collect::<Result<Inputs, Status>>()?;
        attributes.check_inputs(|name| inputs.contains_key(name)).map_err(Failure::from)?;
        Ok(Wish::new(attributes, inputs))
    }

    /// What another build has promised.
    fn promised(&self, name: &str, definition: &Definition) -> Result<Arc<Promise>, Status> {
        if matches!(name, "context" | "dockerfile") {
            return Err(Status::unimplemented(format!(
                "a build whose {name} is what another one makes is not supported: give it a name of its own"
            )));
        }
        let (build, wish) = linked::named(definition).ok_or_else(no_llb)?;
        let known = self.jobs.known_now(&build).and_then(|job| job.bridge.find(&wish).ok());
        known.map(|wish| wish.promise).ok_or_else(|| {
            Status::not_found(format!(
                "the build that the input {name} comes from is over: ask for both at once"
            ))
        })
    }

    /// What a client wants built, of what it has asked for.
    async fn returned(&self, job: &Job) -> Result<Option<Wish>, Status> {
        let returned = job.bridge.outcome().await?;
        if let Some(error) = returned.error {
            return Err(Status::new(Code::from(error.code), error.message));
        }
        let outcome = returned.result.unwrap_or_default();
        bridge::reference(&outcome)?.map(|reference| job.bridge.choose(reference)).transpose()
    }

    /// Who asks, with the Dockerfile at hand.
    async fn asker(
        &self,
        session: Arc<Session>,
        teller: Teller,
        reference: &str,
        job: &Job,
        attributes: &mut Attributes,
        inputs: Inputs,
    ) -> Result<Asker, Failure> {
        let mut remote = job.files().await.map(|tree| RemoteContext { tree, dockerfile: None, origin: None });
        if let Some(url) = &attributes.remote {
            let client = Arc::new(Client(session.clone()));
            let fetched = match upload_path(url) {
                Some(path) => self.uploaded(&session, path, &teller, reference).await,
                None => self.builder.remote_context(url, &attributes.options, client, &teller).await,
            };
            remote = Some(fetched.map_err(|error| Failure(status(&error, None)))?);
        }
        let mut others = HashMap::new();
        for (directory, id) in &attributes.sessions {
            others.insert(directory.clone(), self.sessions.find(id).await?);
        }
        let sessions = Sessions { own: session, others };
        Asker::prepare(sessions, self.store.clone(), teller, reference, attributes, remote, inputs).await
    }

    /// The context that is an archive on the client's standard input.
    async fn uploaded(
        &self,
        session: &Session,
        path: &str,
        teller: &Teller,
        reference: &str,
    ) -> corten_build::Result<RemoteContext> {
        let step = Step::new(teller, reference, "[internal] load remote build context");
        let transfer = |received| async move {
            let upload = session.upload(path, received).await.map_err(|status| {
                Error::Internal(format!("cannot read the build context: {}", status.message()))
            })?;
            self.builder.unpack(Box::new(upload)).await
        };
        let tree = step.run("transferring context:", transfer).await?;
        Ok(RemoteContext { tree, dockerfile: None, origin: None })
    }

    /// Answers a question about the Dockerfile: what its front end says of it, by the names of BuildKit's subrequests.
    async fn ask(
        &self,
        reference: &str,
        job: &Job,
        question: &str,
        mut attributes: Attributes,
    ) -> Result<BTreeMap<String, Vec<u8>>, Status> {
        if question == subrequests::DESCRIBE {
            return Ok(subrequests::describe());
        }
        let known = question.strip_prefix("frontend.").and_then(Question::parse);
        let question = known
            .ok_or_else(|| Status::unimplemented(format!("the subrequest {question:?} is not supported")))?;
        let session = self.sessions.find(&job.session).await.map_err(Failure::from)?;
        let (teller, pass_on) = watched(job, Arc::default());
        let client = session.clone();
        let work = async {
            let asker = self.asker(client, teller, reference, job, &mut attributes, Inputs::new()).await?;
            let told = |error| Failure(status(&error, Some(&*asker.source())));
            let definition = asker.definition().await.map_err(told)?;
            self.builder.answer(question, definition, attributes.options).await.map_err(told)
        };
        let answered = async {
            let (answer, ()) = tokio::join!(work, pass_on);
            answer
        };
        let answer = tokio::select! {
            answer = answered => answer?,
            () = session.closed() => return Err(status(&Error::Canceled, None)),
            () = job.canceled() => return Err(status(&Error::Canceled, None)),
        };
        let mut metadata = BTreeMap::from([
            ("result.json".to_owned(), answer.json.into_bytes()),
            ("result.txt".to_owned(), answer.text.into_bytes()),
            ("version".to_owned(), b"1.0.0".to_vec()),
        ]);
        if question == Question::Lint {
            let is_clean = answer.warnings == 0 && !answer.has_error;
            metadata.insert("result.statuscode".to_owned(), if is_clean { b"0" } else { b"1" }.to_vec());
        }
        Ok(metadata)
    }

    async fn build(
        &self,
        reference: &str,
        job: &Job,
        wish: Wish,
        outputs: Vec<Output>,
    ) -> Result<SolveResponse, Status> {
        let Wish { mut attributes, inputs, promise } = wish;
        let session = self.sessions.find(&job.session).await.map_err(Failure::from)?;
        let source = Arc::new(OnceLock::new());
        let (teller, pass_on) = watched(job, source.clone());
        let (recording, teller) = self.builder.record(about(reference, &attributes, &outputs), teller);
        let client = session.clone();
        let work = async {
            let asker = self.asker(client, teller.clone(), reference, job, &mut attributes, inputs).await?;
            let asker = Arc::new(asker);
            let text = source.get_or_init(|| asker.source()).clone();
            let mut options = attributes.options;
            options.tags = outputs.iter().flat_map(Output::names).cloned().collect();
            let job = builder::Job { options, outputs, asker, teller, promise: promise.clone() };
            self.builder.build(job).await.map_err(|error| Failure(status(&error, Some(&text))))
        };
        let built = async {
            // Both to their ends: what was told last is passed on before the build counts as done.
            let (built, ()) = tokio::join!(work, pass_on);
            let told = |failure: &Failure| failure.0.message().to_owned();
            if let Err(failure) = &built {
                promise.give_up(&format!("its build has failed: {}", told(failure)));
            }
            recording.end(built.as_ref().map(Built::clone).map_err(told)).await;
            built
        };
        tokio::select! {
            built = built => Ok(SolveResponse { exporter_response: response(&built?) }),
            () = session.closed() => Err(status(&Error::Canceled, None)),
            () = job.canceled() => Err(status(&Error::Canceled, None)),
        }
    }
}

/// What is known of a build when it begins.
fn about(reference: &str, attributes: &Attributes, outputs: &[Output]) -> Past {
    let options = &attributes.options;
    Past {
        reference: reference.to_owned(),
        name: outputs.iter().flat_map(Output::names).next().cloned().unwrap_or_else(|| "-".to_owned()),
        dockerfile: options.dockerfile.clone(),
        target: options.target.clone(),
        platform: options.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        repository: options.vcs.get("source").cloned().unwrap_or_default(),
        ..Past::default()
    }
}

/// An end for a build's events, and what passes them on to those who watch it: it ends with the last teller, or when it is dropped.
/// Warnings point into `source`, when that is known.
fn watched(job: &Job, source: Arc<OnceLock<Arc<Source>>>) -> (Teller, impl Future<Output = ()> + use<>) {
    let (teller, mut events) = mpsc::channel(EVENTS_MAX);
    let board = job.board.clone();
    let pass_on = async move {
        while let Some(event) = events.recv().await {
            board.add(event, source.get().map(Arc::as_ref));
        }
    };
    (teller, pass_on)
}

fn answer(
    request: &gateway::SolveRequest,
    reference: String,
    definition: Option<Definition>,
) -> gateway::SolveResponse {
    match request.allow_result_return {
        true => gateway::SolveResponse {
            ref_deprecated: String::new(),
            result: Some(bridge::outcome(reference, definition)),
        },
        false => gateway::SolveResponse { ref_deprecated: reference, result: None },
    }
}

/// What would otherwise be accepted and ignored.
fn refuse_unsupported(request: &SolveRequest) -> Result<(), Status> {
    let is_driven = request.frontend.is_empty();
    let has_inputs = request.frontend_inputs.values().any(|input| is_there(Some(input)));
    if is_there(request.definition.as_ref()) || is_driven && has_inputs {
        return Err(no_llb());
    }
    if request.source_policy.is_some() || !request.source_policy_session.is_empty() {
        return Err(Status::unimplemented("source policies are not supported"));
    }
    if request.enable_session_exporter || request.proxy_network {
        return Err(Status::unimplemented("exporters of a session and proxied networks are not supported"));
    }
    Ok(())
}

/// What a client allows its build beyond containers of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entitlements {
    host_network: bool,
}

impl Entitlements {
    /// What the client could do by itself it may allow a Dockerfile: containers in the host's network.
    fn parse(names: &[String]) -> Result<Self, Status> {
        let mut entitlements = Self::default();
        for name in names {
            match name.as_str() {
                "network.host" => entitlements.host_network = true,
                "security.insecure" => {
                    return Err(Status::permission_denied(
                        "security.insecure is not allowed: this engine's builds have no privileged steps; leave \
                         --allow security.insecure out, or do that step in a container (run --privileged) and commit it",
                    ));
                }
                other => {
                    return Err(Status::permission_denied(format!(
                        "{other} is not allowed: of entitlements there is network.host"
                    )));
                }
            }
        }
        Ok(entitlements)
    }
}

/// The caches that a client names; clients of before 2019 have one to export to, and names at registries alone.
fn caches(options: CacheOptions) -> Result<(Vec<CacheSource>, Vec<CacheTarget>), Status> {
    let CacheOptions { mut exports, mut imports, .. } = options;
    let registry = |name: String, mut attrs: BTreeMap<String, String>| {
        attrs.insert("ref".to_owned(), name);
        CacheOptionsEntry { r#type: "registry".to_owned(), attrs }
    };
    if !options.export_ref_deprecated.is_empty() {
        exports.push(registry(options.export_ref_deprecated, options.export_attrs_deprecated));
    }
    imports.extend(options.import_refs_deprecated.into_iter().map(|name| registry(name, BTreeMap::new())));
    let export = |entry: &CacheOptionsEntry| CacheTarget::parse(&entry.r#type, &entry.attrs);
    let exports = exports.iter().map(export).collect::<Result<Vec<_>, _>>().map_err(refused_cache)?;
    // The client is told of one manifest, and lists it in all its directories.
    if exports.iter().filter(|target| matches!(target.place, CachePlace::Client(_))).count() > 1 {
        return Err(Status::unimplemented("only one cache of type local can be exported by a build"));
    }
    Ok((sources(&imports)?, exports))
}

fn sources(entries: &[CacheOptionsEntry]) -> Result<Vec<CacheSource>, Status> {
    let sources = entries.iter().map(|entry| CacheSource::parse(&entry.r#type, &entry.attrs));
    sources.collect::<Result<_, _>>().map_err(refused_cache)
}

fn refused_cache(error: CacheOptionError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Clients say the same in several places.
fn add_sources(options: &mut Options, more: Vec<CacheSource>) {
    for source in more {
        if !options.cache_from.contains(&source) {
            options.cache_from.push(source);
        }
    }
}

fn no_llb() -> Status {
    Status::unimplemented("this builder takes Dockerfiles, no LLB definitions")
}

fn is_there(definition: Option<&Definition>) -> bool {
    definition.is_some_and(|definition| !definition.def.is_empty())
}

/// Where the outcome goes, and the form of the image, which is one for all.
fn outputs(request: &SolveRequest) -> Result<(Vec<Output>, ImageForm), Status> {
    let deprecated = || (&request.exporter_deprecated, &request.exporter_attrs_deprecated);
    let wanted = match request.exporters.as_slice() {
        [] if request.exporter_deprecated.is_empty() => Vec::new(),
        [] => vec![deprecated()],
        exporters => exporters.iter().map(|exporter| (&exporter.r#type, &exporter.attrs)).collect(),
    };
    let (mut outputs, mut form) = (Vec::new(), None);
    for (number, (exporter, attributes)) in wanted.into_iter().enumerate() {
        let output = Output::parse(number, exporter, attributes).map_err(Failure::from)?;
        if output.wants_image() {
            let own = image_form::parse(attributes);
            if form.get_or_insert_with(|| own.clone()) != &own {
                return Err(Failure::from(OutputError::Forms).into());
            }
        }
        outputs.push(output);
    }
    Ok((outputs, form.unwrap_or_default()))
}

/// What clients read of an outcome: ids for `--iidfile` and `--metadata-file`, and what they list in a directory with a cache.
fn response(built: &Built) -> BTreeMap<String, String> {
    let mut response = BTreeMap::new();
    if let Some(cache) = &built.cache {
        response.insert("cache.manifest".into(), descriptor(cache));
    }
    let Some(Image { id, manifest, names }) = &built.image else { return response };
    if let Some(id) = id {
        response.insert("containerimage.config.digest".into(), id.to_string());
    }
    response.insert("containerimage.digest".into(), manifest.digest.to_string());
    response.insert("containerimage.descriptor".into(), base64(descriptor(manifest).as_bytes()));
    if !names.is_empty() {
        response.insert("image.name".into(), names.join(","));
    }
    response
}

fn descriptor(manifest: &Manifest) -> String {
    let Manifest { media_type, digest, bytes } = manifest;
    serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes}).to_string()
}

//! What the engine tells: one method per kind of object, with the attributes that Docker gives it.

use corten_api::event::{EventActor, EventMessage};
use corten_api::{Map, Timestamp};

use crate::Engine;
use crate::container::Container;
use crate::mounts::MountKind;

impl Engine {
    /// Of a container; `more` goes beside its labels, name and image.
    pub(crate) fn container_event(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let record = container.read();
        if record.is_build_step {
            return;
        }
        let mut attributes: Map<String> = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        drop(record);
        extend(&mut attributes, more);
        self.publish(message("container", action, &container.id, attributes));
    }

    /// Of an image by its id and what it was called; its labels are told too, while it is there.
    pub(crate) fn image_event(&self, id: &str, action: &str, name: &str) {
        let image = self.images.resolve(id).ok();
        let labels = image.map(|image| image.config.config.labels.clone());
        let mut attributes: Map<String> = labels.into_iter().flatten().collect();
        extend(&mut attributes, &[("name", name)]);
        self.publish(message("image", action, id, attributes));
    }

    pub(crate) fn volume_event(&self, name: &str, action: &str, more: &[(&str, &str)]) {
        self.publish(message("volume", action, name, attributes(more)));
    }

    /// Of the volumes that a container begins or ceases to use.
    pub(crate) fn mount_events(&self, container: &Container, mounted: bool) {
        let record = container.read();
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let (action, writable) =
                (if mounted { "mount" } else { "unmount" }, (!mount.read_only).to_string());
            let mut more = vec![("container", container.id.as_str()), ("driver", "local")];
            if mounted {
                more.push(("destination", &mount.destination));
                more.push(("propagation", &mount.propagation));
                more.push(("read/write", &writable));
            }
            self.volume_event(&mount.volume, action, &more);
        }
    }

    /// `container` is who came or went.
    pub(crate) fn network_event(
        &self,
        network: &crate::network::NetworkRecord,
        action: &str,
        container: Option<&str>,
    ) {
        let mut more = vec![("name", network.name.as_str()), ("type", network.driver.as_str())];
        more.extend(container.map(|id| ("container", id)));
        self.publish(message("network", action, &network.id, attributes(&more)));
    }

    /// Of the engine itself.
    pub(crate) fn daemon_event(&self, action: &str, more: &[(&str, &str)]) {
        let mut attributes = attributes(more);
        extend(&mut attributes, &[("name", &self.host.name)]);
        self.publish(message("daemon", action, &self.instance, attributes));
    }

    /// The end of a removal of what nobody uses: how many bytes came back. `kind`: container, image, volume, network, builder.
    pub(crate) fn prune_event(&self, kind: &str, reclaimed: u64) {
        let reclaimed = reclaimed.to_string();
        self.publish(message(kind, "prune", "", attributes(&[("reclaimed", &reclaimed)])));
    }
}

impl Engine {
    fn publish(&self, event: EventMessage) {
        self.counted.event();
        self.events.publish(event);
    }
}

fn attributes(pairs: &[(&str, &str)]) -> Map<String> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn extend(attributes: &mut Map<String>, more: &[(&str, &str)]) {
    attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
}

fn message(kind: &str, action: &str, id: &str, attributes: Map<String>) -> EventMessage {
    let now = Timestamp::now();
    EventMessage {
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: EventActor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: now.unix(),
        time_nano: now.unix_nanos(),
        ..EventMessage::default()
    }
}

//! `update`: other limits and another restart policy for a container that exists, while it runs too.
//!
//! What a request leaves at zero stays as it is ([`merge`]); only what it names goes to the control groups ([`named`]). Both are
//! pure. The record is written before the groups, with what was so far beside it: an engine that is killed in between
//! finishes the update at its next start.

use std::sync::Arc;

use corten_api::List;
use corten_api::container::{ContainerUpdateResponse, HostConfig, ThrottleDevice, WeightDevice};
use corten_runtime::monitor::protocol::Request;
use tracing::warn;

use super::create::default_swap;
use super::{Container, Phase};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::resources;

impl Engine {
    /// Changes what `wish` names; a refusal by the kernel leaves everything as it was.
    pub async fn container_update(&self, key: &str, wish: HostConfig) -> Result<ContainerUpdateResponse> {
        resources::check_update(&wish)?;
        super::check::check_restart_policy(&wish)?;
        let warnings = self.host.limits_warnings(&wish);
        let container = self.containers.find(key)?;
        let _turn = container.operation.lock().await;
        let cannot = |error: Error| error.within(format!("Cannot update container {}", container.id));
        if container.phase() == Phase::Removing || container.progress.borrow().removed {
            let message = "container is marked for removal and cannot be \"update\"";
            return Err(cannot(Error::conflict(message)));
        }
        let (engine, own, limits_memory) = (self.clone(), container.clone(), wish.memory > 0);
        crate::image::blocking(move || engine.update(&own, &wish)).await.map_err(cannot)?;
        self.restart_policy_changed(&container);
        if let Some(link) = container.link().filter(|_| limits_memory) {
            // A monitor of an older version refuses; it tells at the end.
            let _ = link.send(&Request::WatchMemory { seq: 0 }, &[]).await;
        }
        self.container_event(&container, "update", &[]);
        // Go's nil slice, when there are none.
        let warnings = if warnings.is_empty() { List::default() } else { warnings.into() };
        Ok(ContainerUpdateResponse { warnings })
    }

    fn update(&self, container: &Container, wish: &HostConfig) -> Result<()> {
        let mut record = container.read().clone();
        let old = std::mem::take(&mut record.host_config);
        record.host_config = merge(&old, wish)?;
        if !record.state.phase.is_alive() {
            // The next start makes its groups anew.
            self.store.put_container(&container.id, &record)?;
            container.write().host_config = record.host_config;
            return Ok(());
        }
        let limits = resources::resources(&named(&old, &record.host_config, wish), Vec::new())?;
        record.unsettled = Some(Box::new(old.clone()));
        self.store.put_container(&container.id, &record)?;
        let applied = self
            .cgroup(container)
            .and_then(|group| group.apply(&limits).map_err(|error| Error::internal(error.to_string())));
        if let Err(error) = applied {
            // Should this fail too, the next engine finds the mark, tries, and comes to the same end.
            self.save(container);
            return Err(error);
        }
        container.write().host_config = record.host_config;
        self.save(container);
        Ok(())
    }

    /// Finishes an update that a killed engine has begun.
    pub(super) fn settle_update(&self, container: &Arc<Container>) {
        let Some(old) = container.write().unsettled.take() else { return };
        let new = container.read().host_config.clone();
        let settled = match container.phase().is_alive() {
            false => Ok(()),
            true => resources::resources(&named(&old, &new, &new), Vec::new()).and_then(|limits| {
                let applied = self.cgroup(container)?.apply(&limits);
                applied.map(drop).map_err(|error| Error::internal(error.to_string()))
            }),
        };
        if let Err(error) = settled {
            warn!(container = container.id, %error, "an update that was cut short is undone");
            container.write().host_config = *old;
        }
        self.save(container);
    }
}

/// The configuration after the update: what `wish` names, and the rest of `old`.
fn merge(old: &HostConfig, wish: &HostConfig) -> Result<HostConfig> {
    check_conflicts(old, wish)?;
    let mut new = old.clone();
    let change = |field: &mut i64, wish: i64| {
        if wish != 0 {
            *field = wish;
        }
    };
    change(&mut new.cpu_shares, wish.cpu_shares);
    change(&mut new.nano_cpus, wish.nano_cpus);
    change(&mut new.cpu_period, wish.cpu_period);
    change(&mut new.cpu_quota, wish.cpu_quota);
    change(&mut new.cpu_realtime_period, wish.cpu_realtime_period);
    change(&mut new.cpu_realtime_runtime, wish.cpu_realtime_runtime);
    change(&mut new.memory, wish.memory);
    change(&mut new.memory_swap, wish.memory_swap);
    if wish.memory > 0 && new.memory_swap == 0 {
        // Never limited: as for a new container. Docker refuses, for want of a limit that nobody asked for.
        new.memory_swap = default_swap(wish.memory);
    }
    change(&mut new.memory_reservation, wish.memory_reservation);
    for (field, wish) in
        [(&mut new.cpuset_cpus, &wish.cpuset_cpus), (&mut new.cpuset_mems, &wish.cpuset_mems)]
    {
        if !wish.is_empty() {
            field.clone_from(wish);
        }
    }
    if wish.blkio_weight != 0 {
        new.blkio_weight = wish.blkio_weight;
    }
    if !wish.blkio_weight_device.is_nil() {
        new.blkio_weight_device = wish.blkio_weight_device.clone();
    }
    for (field, wish) in rates_mut(&mut new).into_iter().zip(rates(wish)) {
        if !wish.is_nil() {
            *field = wish.clone();
        }
    }
    if let Some(limit) = wish.pids_limit {
        // Docker keeps "no limit" as zero.
        new.pids_limit = Some(limit.max(0));
    }
    if !wish.restart_policy.name.is_empty() {
        new.restart_policy = wish.restart_policy.clone();
    }
    Ok(new)
}

/// What `wish` can't have because of what the container has; Docker's texts.
fn check_conflicts(old: &HostConfig, wish: &HostConfig) -> Result<()> {
    for (conflict, text) in [
        (
            wish.nano_cpus > 0 && old.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            wish.nano_cpus > 0 && old.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            wish.cpu_period > 0 && old.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            wish.cpu_quota > 0 && old.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            old.memory_swap > 0 && wish.memory > old.memory_swap && wish.memory_swap == 0,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            old.auto_remove && !matches!(wish.restart_policy.name.as_str(), "" | "no"),
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ] {
        if conflict {
            return Err(Error::new(ErrorKind::Conflict, text));
        }
    }
    Ok(())
}

/// A configuration with the limits alone that `wish` names, as they are in `new`; those that share a file with one of them
/// too, and zeros for devices that are limited no more.
fn named(old: &HostConfig, new: &HostConfig, wish: &HostConfig) -> HostConfig {
    let mut named = HostConfig {
        cpu_shares: wish.cpu_shares,
        nano_cpus: wish.nano_cpus,
        cpuset_cpus: wish.cpuset_cpus.clone(),
        cpuset_mems: wish.cpuset_mems.clone(),
        memory_reservation: wish.memory_reservation,
        blkio_weight: wish.blkio_weight,
        // Zero would be "not named".
        pids_limit: wish.pids_limit.map(|limit| if limit > 0 { limit } else { -1 }),
        ..HostConfig::default()
    };
    if wish.memory != 0 || wish.memory_swap != 0 {
        (named.memory, named.memory_swap) = (new.memory, new.memory_swap);
    }
    if wish.cpu_period != 0 || wish.cpu_quota != 0 {
        (named.cpu_period, named.cpu_quota) = (new.cpu_period, new.cpu_quota);
    }
    if wish.cpu_realtime_period != 0 || wish.cpu_realtime_runtime != 0 {
        named.cpu_realtime_period = new.cpu_realtime_period;
        named.cpu_realtime_runtime = new.cpu_realtime_runtime;
    }
    if !wish.blkio_weight_device.is_nil() {
        let (old, mut now) = (&old.blkio_weight_device, wish.blkio_weight_device.clone());
        let gone: Vec<_> = old.iter().filter(|o| !now.iter().any(|n| n.path == o.path)).collect();
        now.extend(gone.into_iter().map(|device| WeightDevice { path: device.path.clone(), weight: 0 }));
        named.blkio_weight_device = now;
    }
    for ((field, old), wish) in rates_mut(&mut named).into_iter().zip(rates(old)).zip(rates(wish)) {
        let gone = old.iter().filter(|o| !wish.is_nil() && !wish.iter().any(|n| n.path == o.path));
        let gone = gone.map(|device| ThrottleDevice { path: device.path.clone(), rate: 0 });
        *field = wish.iter().cloned().chain(gone).collect();
    }
    named
}

fn rates(host: &HostConfig) -> [&List<ThrottleDevice>; 4] {
    [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ]
}

fn rates_mut(host: &mut HostConfig) -> [&mut List<ThrottleDevice>; 4] {
    [
        &mut host.blkio_device_read_bps,
        &mut host.blkio_device_write_bps,
        &mut host.blkio_device_read_iops,
        &mut host.blkio_device_write_iops,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(change: impl FnOnce(&mut HostConfig)) -> HostConfig {
        let mut host = HostConfig::default();
        change(&mut host);
        host
    }

    #[test]
    fn what_is_not_named_stays() {
        let old = host(|h| (h.memory, h.memory_swap, h.cpu_shares) = (64 << 20, 128 << 20, 512));
        let wish = host(|h| (h.memory, h.pids_limit) = (96 << 20, Some(-1)));
        let new = merge(&old, &wish).unwrap();
        assert_eq!((new.memory, new.memory_swap, new.cpu_shares), (96 << 20, 128 << 20, 512));
        assert_eq!(new.pids_limit, Some(0));
        let named = named(&old, &new, &wish);
        // Memory and swap depend on each other; shares were not asked for.
        assert_eq!((named.memory, named.memory_swap, named.cpu_shares), (96 << 20, 128 << 20, 0));
        assert_eq!(named.pids_limit, Some(-1));
    }

    #[test]
    fn memory_that_was_not_limited_gets_swap_as_in_a_new_container() {
        let wish = host(|h| h.memory = 64 << 20);
        for (swap, new) in [(0, 128 << 20), (-1, -1)] {
            let old = host(|h| h.memory_swap = swap);
            assert_eq!(merge(&old, &wish).unwrap().memory_swap, new);
        }
    }

    #[test]
    fn conflicts_with_what_is_set() {
        let refused = |old: HostConfig, wish: HostConfig| merge(&old, &wish).unwrap_err().message;
        let old = host(|h| h.cpu_quota = 50_000);
        assert!(refused(old, host(|h| h.nano_cpus = 1)).contains("CPU Quota has already been set"));
        let old = host(|h| h.nano_cpus = 1);
        assert!(refused(old, host(|h| h.cpu_period = 1000)).contains("NanoCPUs has already been set"));
        let old = host(|h| (h.memory, h.memory_swap) = (16 << 20, 32 << 20));
        assert!(refused(old, host(|h| h.memory = 64 << 20)).contains("memoryswap at the same time"));
        let old = host(|h| h.auto_remove = true);
        assert!(
            refused(old.clone(), host(|h| h.restart_policy.name = "always".into())).contains("AutoRemove")
        );
        assert!(merge(&old, &host(|h| h.restart_policy.name = "no".into())).is_ok());
    }

    #[test]
    fn devices_that_are_not_in_the_new_list_are_set_free() {
        let rate = |path: &str, rate| ThrottleDevice { path: path.to_owned(), rate };
        let old = host(|h| h.blkio_device_read_bps = vec![rate("/dev/a", 1), rate("/dev/b", 2)].into());
        let wish = host(|h| h.blkio_device_read_bps = vec![rate("/dev/b", 3)].into());
        let new = merge(&old, &wish).unwrap();
        assert_eq!(new.blkio_device_read_bps.as_slice(), [rate("/dev/b", 3)]);
        let named = named(&old, &new, &wish);
        assert_eq!(named.blkio_device_read_bps.as_slice(), [rate("/dev/b", 3), rate("/dev/a", 0)]);
        assert!(named.blkio_device_write_bps.is_empty());
    }
}

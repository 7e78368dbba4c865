//! The process's own settings: limits, scheduling, user, directory, labels, and the last steps before the exec.

use std::ffi::CString;

use corten_sys::sched::SchedAttr;

use super::privileges::{CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, masks};
use super::{Action, CapabilityPlan, Host, Operation, c_string, invalid, parse_list};
use crate::monitor::protocol::{Step, StepError};
use crate::spec::{Process, Rlimit, Scheduler};

/// Names of resource limits; the index is the number (asm-generic/resource.h).
const RESOURCES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];
const NOFILE: u32 = 7;

/// The supplementary groups that a process may have here.
pub const GROUPS_MAX: usize = 1024;

/// Whom to become. Names are looked up by the child, in the container's own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAction {
    /// `None`: `uid` and `gid` stand as they are.
    pub user: Option<UserName>,
    pub group: Option<GroupName>,
    pub uid: u32,
    pub gid: u32,
    /// Given as numbers.
    pub groups: Vec<u32>,
    /// To be looked up.
    pub group_names: Vec<GroupName>,
    pub wants_home: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    Name(CString),
    Number(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupName {
    Name(CString),
    Number(u32),
}

/// What is to be planned, for a container's first process or for an exec.
pub(super) struct Wish<'a> {
    pub process: &'a Process,
    pub user: Option<&'a str>,
    pub groups: &'a [String],
    pub create_cwd: bool,
    pub strict: &'a [String],
    pub user_namespace: bool,
    pub hold: bool,
    pub hooks: bool,
    pub init: bool,
    pub exec: bool,
}

/// What an exec does while it still has the caller's rights and view: `/proc/self` is the host's here.
pub(super) fn before_entering(
    list: &mut Vec<Operation>,
    process: &Process,
    strict: &[String],
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), StepError> {
    limits(list, process, strict, host, warnings)?;
    oom_score(list, process, strict);
    scheduling(list, process)?;
    let wish = process.exec_cpu_affinity.as_ref();
    affinity(list, wish.and_then(|a| a.initial.as_deref()))
}

/// Where an exec runs once it is in the container's control groups, whose CPUs the kernel has given it on entering.
pub(super) fn final_affinity(list: &mut Vec<Operation>, process: &Process) -> Result<(), StepError> {
    let wish = process.exec_cpu_affinity.as_ref();
    affinity(list, wish.and_then(|a| a.last.as_deref()))
}

fn affinity(list: &mut Vec<Operation>, cpus: Option<&str>) -> Result<(), StepError> {
    if let Some(cpus) = cpus.filter(|c| !c.is_empty()) {
        let mask = parse_list("process.execCPUAffinity", cpus)?;
        list.push(Operation::new(Step::Scheduler, format!("CPUs {cpus}"), Action::Affinity { mask }));
    }
    Ok(())
}

pub(super) fn plan(
    list: &mut Vec<Operation>,
    wish: &Wish<'_>,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), StepError> {
    let process = wish.process;
    if !wish.exec {
        limits(list, process, wish.strict, host, warnings)?;
        oom_score(list, process, wish.strict);
        scheduling(list, process)?;
    }
    user(list, wish)?;
    list.push(Operation::new(Step::Console, "stdio", Action::Streams { terminal: process.terminal }));
    let cwd = process.cwd.as_str();
    if !cwd.starts_with('/') {
        return Err(invalid("process.cwd", format!("{cwd:?} is not an absolute path")));
    }
    let action = Action::WorkingDirectory { path: c_string("process.cwd", cwd)?, create: wish.create_cwd };
    list.push(Operation::new(Step::WorkingDirectory, cwd, action));
    labels(list, process, host)?;

    let masks = masks(process, wish.user_namespace, host, warnings);
    // The filter needs CAP_SYS_ADMIN unless no_new_privs is set; capset(2) gives both up afterwards.
    let keep = masks.sets.permitted | 1 << CAP_SYS_ADMIN | 1 << CAP_SETPCAP;
    let object = wish.user.map_or_else(|| process.user.uid.to_string(), str::to_owned);
    let umask = match process.user.umask {
        Some(umask) if umask > 0o777 => {
            return Err(invalid("process.user.umask", format!("{umask:o} is too large")));
        }
        umask => umask,
    };
    list.push(Operation::new(Step::User, object, Action::Identity { bounding: masks.bounding, umask, keep }));
    let name = process.args.first().cloned().unwrap_or_default();
    if wish.hold || wish.hooks {
        list.push(Operation::new(Step::Exec, &name, Action::FindProgram));
        list.push(Operation::new(Step::Hook, "startContainer", Action::Hold));
    }
    let capabilities = CapabilityPlan {
        sets: corten_sys::caps::CapabilitySets {
            effective: masks.sets.effective & masks.sets.permitted,
            inheritable: masks.sets.inheritable & masks.bounding,
            ..masks.sets
        },
        ambient: masks.ambient & masks.sets.permitted & masks.sets.inheritable & masks.bounding,
        no_new_privileges: process.no_new_privileges,
    };
    list.push(Operation::new(Step::Capability, "capabilities", Action::Privileges(capabilities)));
    if wish.init {
        list.push(Operation::new(Step::Exec, "init", Action::Init));
    }
    list.push(Operation::new(Step::Exec, name, Action::Exec));
    Ok(())
}

fn limits(
    list: &mut Vec<Operation>,
    process: &Process,
    strict: &[String],
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), StepError> {
    let mut seen: Vec<u32> = Vec::new();
    for limit in &process.rlimits {
        let number = limit
            .kind
            .strip_prefix("RLIMIT_")
            .and_then(|k| RESOURCES.iter().position(|r| *r == k))
            .ok_or_else(|| {
            invalid("process.rlimits", format!("{:?} is no resource limit", limit.kind))
        })? as u32;
        if seen.contains(&number) {
            return Err(invalid("process.rlimits", format!("{} is there twice", limit.kind)));
        }
        seen.push(number);
        if limit.soft > limit.hard {
            return Err(invalid("process.rlimits", format!("{}: soft is above hard", limit.kind)));
        }
        let (soft, hard) = clamp(limit, number, strict, host, warnings);
        list.push(Operation::new(Step::Rlimit, &limit.kind, Action::ResourceLimit { number, soft, hard }));
    }
    Ok(())
}

/// A hard limit above the caller's own needs CAP_SYS_RESOURCE; without it the caller's own is the most there is.
fn clamp(
    limit: &Rlimit,
    number: u32,
    strict: &[String],
    host: &Host,
    warnings: &mut Vec<String>,
) -> (u64, u64) {
    let mut most = if host.has(CAP_SYS_RESOURCE) { u64::MAX } else { host.limits[number as usize].1 };
    if number == NOFILE {
        most = most.min(host.files_max);
    }
    if limit.hard <= most || strict.contains(&limit.kind) {
        return (limit.soft, limit.hard);
    }
    warnings.push(format!("{}: {} is more than this host allows: {most} it is", limit.kind, limit.hard));
    (limit.soft.min(most), most)
}

fn oom_score(list: &mut Vec<Operation>, process: &Process, strict: &[String]) {
    if let Some(score) = process.oom_score_adj {
        let value = CString::new(score.to_string()).unwrap_or_default();
        let mut operation =
            Operation::new(Step::Scheduler, format!("oomScoreAdj {score}"), Action::OomScore { value });
        // Lowering it needs CAP_SYS_RESOURCE.
        operation.lenient = !strict.iter().any(|s| s == "oomScoreAdj");
        list.push(operation);
    }
}

fn scheduling(list: &mut Vec<Operation>, process: &Process) -> Result<(), StepError> {
    if let Some(scheduler) = &process.scheduler {
        let action = Action::Scheduler(attributes(scheduler)?);
        list.push(Operation::new(Step::Scheduler, &scheduler.policy, action));
    }
    if let Some(priority) = &process.io_priority {
        let class = match priority.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => return Err(invalid("process.ioPriority.class", format!("{other:?} is unknown"))),
        };
        let level = u32::try_from(priority.priority).ok().filter(|level| *level < 8).ok_or_else(|| {
            invalid("process.ioPriority.priority", format!("{} is not 0 to 7", priority.priority))
        })?;
        list.push(Operation::new(Step::Scheduler, &priority.class, Action::IoPriority { class, level }));
    }
    Ok(())
}

fn attributes(scheduler: &Scheduler) -> Result<SchedAttr, StepError> {
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(invalid("process.scheduler.policy", format!("{other:?} is unknown"))),
    };
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(invalid("process.scheduler.flags", format!("{other:?} is unknown"))),
        };
    }
    Ok(SchedAttr {
        policy,
        flags,
        nice: scheduler.nice,
        priority: u32::try_from(scheduler.priority)
            .map_err(|_| invalid("process.scheduler.priority", "is negative"))?,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..SchedAttr::default()
    })
}

fn user(list: &mut Vec<Operation>, wish: &Wish<'_>) -> Result<(), StepError> {
    let process = wish.process;
    let mut action = UserAction {
        user: None,
        group: None,
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        group_names: Vec::new(),
        wants_home: super::environment(process, "HOME").is_none_or(str::is_empty),
    };
    let mut object = action.uid.to_string();
    if let Some(text) = wish.user {
        object = text.to_owned();
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        action.uid = 0;
        action.gid = 0;
        action.user = match user {
            "" => Some(UserName::Number(0)),
            user => Some(match number(user) {
                Some(number) => UserName::Number(check_id("user", number)?),
                None => UserName::Name(c_string("user", user)?),
            }),
        };
        action.group = group.filter(|g| !g.is_empty()).map(group_name).transpose()?;
    }
    for group in wish.groups {
        action.group_names.push(group_name(group)?);
    }
    if action.groups.len() + action.group_names.len() > GROUPS_MAX {
        return Err(invalid("groups", format!("are more than {GROUPS_MAX}")));
    }
    list.push(Operation::new(Step::User, object, Action::User(Box::new(action))));
    Ok(())
}

fn group_name(text: &str) -> Result<GroupName, StepError> {
    Ok(match number(text) {
        Some(number) => GroupName::Number(check_id("group", number)?),
        None => GroupName::Name(c_string("group", text)?),
    })
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The kernel's ids end one below 2³², which means "none".
fn check_id(field: &str, number: u64) -> Result<u32, StepError> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id < u32::MAX)
        .ok_or_else(|| invalid(field, format!("{number} is not between 0 and 4294967294")))
}

/// What the program is to be confined by. Who asks for a label on a host that does not know such labels is told: to run without would be to
/// drop a protection in silence.
fn labels(list: &mut Vec<Operation>, process: &Process, host: &Host) -> Result<(), StepError> {
    if let Some(profile) = process.apparmor_profile.as_deref().filter(|p| !p.is_empty()) {
        if host.apparmor {
            let action = Action::ExecLabel {
                file: c"thread-self/attr/apparmor/exec".into(),
                label: c_string("process.apparmorProfile", format!("exec {profile}"))?,
            };
            list.push(Operation::new(Step::Label, profile, action));
        } else if profile != "unconfined" {
            return Err(invalid(
                "process.apparmorProfile",
                format!("{profile:?}: AppArmor is not enabled on this host"),
            ));
        }
    }
    if let Some(label) = process.selinux_label.as_deref().filter(|l| !l.is_empty()) {
        if !host.selinux {
            return Err(invalid(
                "process.selinuxLabel",
                format!("{label:?}: SELinux is not enabled on this host"),
            ));
        }
        let action = Action::ExecLabel {
            file: c"thread-self/attr/exec".into(),
            label: c_string("process.selinuxLabel", label)?,
        };
        list.push(Operation::new(Step::Label, label, action));
    }
    Ok(())
}

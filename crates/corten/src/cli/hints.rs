//! What helps with the commonest refusals: words of the engine's (or this program's) message on one side, the next step on the other.
//!
//! Messages are the interface here: tools match on them, so they change seldom. Knows nothing of where a message comes from.

/// The next step for a message, where there is one that helps.
pub fn next_step(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    let fits = |words: &&[&str]| words.iter().all(|word| message.contains(word));
    TABLE.iter().find(|(words, _)| fits(words)).map(|(_, hint)| *hint)
}

/// All of an entry's words must occur, in lower case; the first entry that fits counts.
#[rustfmt::skip]
const TABLE: &[(&[&str], &str)] = &[
    // Our own output.
    (&["writing to standard output"], "the disk or program that standard output goes to takes no more"),

    // Programs that don't start.
    (&["exec format error", "is for"], "run the image on such a host, or get it for this one: `corten images --tree` shows which platforms it has"),
    (&["windows line ends"], "convert the file, e.g. with `sed -i 's/\\r$//' FILE` before it goes into the image"),
    (&["its interpreter", "is not there"], "the image lacks that interpreter or loader: add it, or use a program linked statically or for the image's C library"),
    (&["exec format error"], "a script needs #!/bin/sh (or another interpreter) in its first line"),
    (&["executable file not found in $path"], "look into the image with `corten run --rm -it --entrypoint sh IMAGE`; a shell's built-ins need `sh -c '…'`"),
    (&["it is a directory"], "name a program inside it"),
    (&["no permission to execute"], "`chmod +x` the file in the image, or run it by its interpreter, e.g. `sh FILE`"),
    (&["exec:", "no such file or directory"], "look into the image with `corten run --rm -it --entrypoint sh IMAGE`"),
    (&["no command specified"], "name a command behind the image, or give the image one: `corten inspect IMAGE` shows its Cmd and Entrypoint"),
    (&["working directory", "not a directory"], "choose another --workdir, or make that path a directory in the image"),
    (&["chdir to cwd"], "choose another --workdir"),
    (&["no matching entries in passwd file"], "use a numeric user (--user 1000), or add the name to the image's /etc/passwd"),
    (&["no matching entries in group file"], "use a numeric group (--user 1000:1000), or add the name to the image's /etc/group"),

    // Files, volumes and mounts.
    (&["bind source path does not exist"], "create it on the engine's host first, or use -v, which makes a directory"),
    (&["a directory and the destination a file"], "mount files on files and directories on directories; a missing source of -v is made as a directory"),
    (&["invalid mode"], "modes are ro, rw, z, Z, nocopy, and rshared, rslave, rprivate, shared, slave, private"),
    (&["duplicate mount point"], "each path in the container takes one mount"),
    (&["includes invalid characters for a local volume name"], "write a host directory with its full path or ./, and a volume's name with letters, digits, _ . -"),
    (&["volume is in use"], "remove the containers that use it first; `corten ps -a --filter volume=NAME` lists them"),
    (&["no such volume"], "`corten volume ls` lists the volumes"),
    (&["already exists", "volume"], "choose another name, or remove that volume with `corten volume rm`"),
    (&["failed to export the build cache", "read-only file system"], "name a place for it that can be written to: dest=DIRECTORY is on this side, all else on the engine's"),
    (&["failed to export the build cache", "no space left"], "make room where it goes: dest=DIRECTORY is on this side; on the engine's `corten system df` shows what takes the room"),
    (&["read-only file system"], "mount the path read-write, or write to a volume or tmpfs; --read-only makes the root so"),
    (&["rootfs is marked read-only"], "copy to a volume, or start it without --read-only"),
    (&["no space left"], "`corten system df` shows what takes the room and `corten system prune` frees what nobody uses"),
    (&["disk quota exceeded"], "the volume or file system has a quota: free some of it, or give it more"),
    (&["too many open files"], "raise the limit: `ulimit -n`, LimitNOFILE of the engine's unit, or --ulimit nofile= for a container"),
    (&["input/output error"], "look at the host's disk: `dmesg` tells what the kernel saw"),

    // Names and ids.
    (&["is already in use by container"], "remove that container with `corten rm`, or choose another --name"),
    (&["multiple ids found"], "give more digits of the id, or the name"),
    (&["invalid container name"], "names have two characters at least: letters, digits, _ . -"),
    (&["no such container"], "`corten ps -a` lists the containers"),
    (&["no such exec instance"], "an exec is forgotten soon after its end"),
    (&["no such network"], "`corten network ls` lists the networks"),
    (&["network", "not found"], "`corten network ls` lists the networks and `corten network create` makes one"),
    (&["no such object"], "`corten ps -a`, `corten images`, `corten volume ls` and `corten network ls` list what there is"),
    (&["manifest for", "not found"], "check the name and the tag; the registry has no such image"),
    (&["is no image, but an artifact"], "`corten artifact pull` fetches the files of an artifact"),
    (&["does not exist locally with the tag"], "`corten images` lists the images; `corten tag` gives one the name of a registry"),
    (&["pull access denied"], "check the name, or log in with `corten login`"),
    (&["denied: requested access to the resource is denied"], "check the name, or log in with `corten login`"),
    (&["authentication required"], "log in with `corten login`"),
    (&["get \"http", "/v2/", "connection refused"], "is the registry running, and is this its port?"),
    (&["no matching manifest"], "another platform is chosen with --platform"),
    (&["no such image"], "`corten images` lists the images"),
    (&["invalid reference format"], "an image's name looks like [HOST[:PORT]/]path[:TAG][@DIGEST], with the path in lower case"),

    // Life cycle.
    (&["you cannot remove a running container"], "stop it first, or force it with `corten rm -f`"),
    (&["cannot remove container", "container is running"], "stop it first, or force it with `corten rm -f`"),
    (&["cannot start a paused container"], "`corten unpause` lets it go on"),
    (&["is paused"], "`corten unpause` lets it go on"),
    (&["is not paused"], "`corten ps --filter status=paused` lists those that are"),
    (&["is already paused"], "`corten unpause` lets it go on"),
    (&["is restarting"], "wait until it runs; `corten logs` shows why it ends"),
    (&["is not running"], "`corten start` starts it"),
    (&["marked for removal"], "it is on its way out; use another name"),
    (&["invalid signal"], "signals have the names of `kill -l`, or numbers"),
    (&["can't create 'autoremove' container with restart policy"], "choose between --rm and --restart"),
    (&["--restart and --rm"], "choose between --rm and --restart"),
    (&["unknown policy"], "policies are no, on-failure[:N], always and unless-stopped"),
    (&["maximum retry count"], "only on-failure:N has a number"),
    (&["the monitor of its last run has not ended"], "a process that hangs in the kernel waits for a device or network file system; `ps` on the host shows it in state D"),
    (&["unable to remove repository reference"], "remove that container first, or force it with -f"),
    (&["image is being used by running container"], "stop and remove that container first"),
    (&["image is being used by"], "remove that container first, or force it with -f"),
    (&["image is referenced in multiple repositories"], "remove the names one by one, or all with -f"),
    (&["image has dependent child images"], "remove the images made from it first"),

    // Networks and ports.
    (&["port is already allocated"], "choose another host port with -p, or leave it out (-p 80) for a free one"),
    (&["listen on", "address already in use"], "another program of the host listens there: choose another address or port"),
    (&["address already in use"], "another program of the host has that port: choose another host port with -p"),
    (&["failed to bind host port", "cannot assign requested address"], "no interface of the engine's host has that address; `ip address` there lists them"),
    (&["is no port or range of ports"], "ports are 1 to 65535: -p [HOST-IP:]HOST-PORT:CONTAINER-PORT[/udp]"),
    (&["--publish", "is no ip address"], "write -p [HOST-IP:]HOST-PORT:CONTAINER-PORT[/udp], with an IPv6 address in [ ]"),
    (&["ip address is supported on user-defined networks only"], "make a network with `corten network create --subnet` and use that"),
    (&["no configured subnet contains"], "`corten network inspect` shows the network's subnets"),
    (&["address is already in use"], "choose another --ip; `corten network inspect` shows who has which address"),
    (&["no available ip"], "the network is full: remove containers, or make a network with a larger subnet"),
    (&["pool overlaps"], "choose another --subnet; `ip route` shows the host's own networks"),
    (&["has active endpoints"], "disconnect or remove its containers first; `corten network inspect` lists them"),
    (&["user specified ip address is supported only"], "give the network a --subnet"),
    (&["network-scoped alias is supported only"], "make a network with `corten network create` and use that"),
    (&["is a pre-defined network"], "bridge, host and none are there always"),
    (&["is already attached to network"], "it is connected; `corten network disconnect` first, for other settings"),
    (&["endpoint with name", "already exists in network"], "it is connected; `corten network disconnect` first, for other settings"),
    (&["conflicting options", "network"], "choose one of the two; a container that shares a network takes its name, ports and DNS from there"),
    (&["bad format for add-host"], "write --add-host NAME:ADDRESS, or NAME:host-gateway for the host"),

    // Resources.
    (&["minimum memory limit"], "give --memory 6m or more"),
    (&["minimum memoryswap limit", "larger"], "--memory-swap is memory and swap together: at least --memory, or -1"),
    (&["memory.limit", "device or resource busy"], "it uses more than that at the moment: `corten stats` shows how much"),
    (&["expected a size"], "sizes are bytes or with b, k, m, g: 512m"),
    (&["range of cpus"], "`nproc` on the engine's host tells how many there are"),
    (&["requested cpus are not available"], "`nproc` on the engine's host tells how many there are, from 0"),
    (&["requested memory nodes are not available"], "`ls /sys/devices/system/node` on the engine's host lists them"),
    (&["rlimit", "operation not permitted"], "a hard limit can't go above the engine's own; raise LimitNOFILE or the like of its unit"),
    (&["there is no limit"], "limits have the names of setrlimit(2), without RLIMIT_"),
    (&["cannot allocate memory"], "the host or the parent control group is out of memory; `free -m` and `corten stats` show where it is"),
    (&["resource temporarily unavailable"], "a limit on processes is reached: of the container (--pids-limit), of the engine's unit (TasksMax), or kernel.pid_max"),
    (&["your kernel does not support"], "`corten doctor` lists what this host lacks and how to mend it"),

    // Security and devices.
    (&["unknown capability"], "capabilities have the names of capabilities(7), with or without CAP_"),
    (&["error gathering device information"], "`ls -l` on the engine's host shows whether the device is there"),
    (&["is not allowed", "sysctl"], "with --network host or --ipc host those are the host's; set them there with `sysctl -w`"),
    (&["sysctl", "no such file or directory"], "this kernel has no such setting; `sysctl -a` lists them"),
    (&["--gpus"], "pass device nodes with --device"),
    (&["could not select device driver"], "pass device nodes with --device"),
    (&["unknown or invalid runtime name"], "`corten info --format '{{json .Runtimes}}'` lists the runtimes; more go into daemon.json"),
    (&["isolation", "not supported"], "leave --isolation out for processes in namespaces"),

    // Logs.
    (&["logger: no log driver"], "`corten info --format '{{.Plugins.Log}}'` lists the drivers"),
    (&["unknown log opt"], "docs/log-format.md lists each driver's options"),
    (&["does not support reading"], "use json-file or local, or leave dual logging on"),

    // Images and archives.
    (&["does not match the specified platform"], "`corten images --tree` shows which platforms are there"),
    (&["not a tar archive"], "`corten load` takes what `save` wrote, `corten import` a file system as tar, both also compressed by gzip, zstd or xz"),
    (&["unexpected end of"], "the archive is cut off: write or copy it again, and compare sizes"),
    (&["does not match its digest"], "the bytes were damaged on the way: fetch or save the image again"),

    // The way to the engine.
    (&["is too new. maximum supported api version"], "the client is newer than the engine: set DOCKER_API_VERSION to the version that the message names"),
    (&["client version", "is too old"], "update the client, or set DOCKER_API_VERSION to a version that the engine has"),
    (&["http request to an https server"], "add --tls or --tlsverify with the client's certificate"),
    (&["invalid http version"], "that port may speak TLS: add --tlsverify with the client's certificate, or set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"),
    (&["certificate"], "check --tlscacert, --tlscert and --tlskey, or DOCKER_CERT_PATH; `openssl x509 -in cert.pem -noout -dates -ext subjectAltName` shows names and dates"),
    (&["fatal alert"], "the engine refuses the TLS connection: it wants a client certificate that its authority has signed (--tlscert, --tlskey)"),
    (&["connection reset by peer"], "the engine may have ended: its journal or log says why"),
    (&["this node is not a swarm manager"], "Swarm is not part of this engine; Compose runs services on one host"),

    // Clients' own words.
    (&["could not find the file"], "`corten exec CONTAINER ls` shows what is there while it runs, `corten export` packs all of it"),
    (&["the connection to ssh://"], "`ssh HOST corten version` shows whether the way is free and what is there"),
    (&["no such file or directory", "opening"], "check the path; it is looked up from the working directory"),
    (&["can't read"], "check the path and its permissions; it is looked up from the working directory"),
    (&["invalid filter"], "the command's --help names the filters"),
    (&["template", "no closing"], "templates look like '{{.Names}}\\t{{.Status}}'; quote them from the shell"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_entries_come_before_general_ones() {
        // An entry is dead when the words of an earlier one are all among its own.
        for (index, (words, _)) in TABLE.iter().enumerate() {
            for (earlier, _) in &TABLE[..index] {
                let hides = earlier.iter().all(|word| words.iter().any(|own| own.contains(word)));
                assert!(!hides, "{earlier:?} hides {words:?}");
            }
        }
    }

    #[test]
    fn words_are_lower_case_and_hints_are_sentences_without_end() {
        for (words, hint) in TABLE {
            assert!(words.iter().all(|word| word.to_lowercase() == **word), "{words:?}");
            assert!(!hint.ends_with('.'), "{hint}");
        }
    }

    #[test]
    fn messages_find_their_hint() {
        let hint = |message| next_step(message).unwrap_or_default();
        assert!(
            hint("failed to start container 50fe: exec: foo: executable file not found in $PATH")
                .contains("--entrypoint sh")
        );
        assert!(hint("exec format error: the program is for arm64, this host is amd64").contains("--tree"));
        assert!(hint("Bind for 0.0.0.0:80 failed: port is already allocated").contains("-p"));
        assert!(hint("write /var/lib/x: no space left on device").contains("system df"));
        assert_eq!(next_step("something else"), None);
    }
}

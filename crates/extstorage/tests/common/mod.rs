//! Providers in a directory of root's, and what they leave behind.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use gnt_extstorage::{ExtStorage, SearchPath, Volume};
use gnt_process::System;
use gnt_tests::place::{copy_providers, private_dir};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// A copy of a folder of providers, and a directory for their volumes, which are behind loop devices.
pub(crate) struct World {
    temp: TempDir,
    /// What providers are told.
    pub(crate) params: Map<String, Value>,
}

impl World {
    /// With the providers in a folder of the repository.
    pub(crate) fn with(folder: &str) -> io::Result<World> {
        let temp = private_dir()?;
        copy_providers(folder, &temp.path().join("providers"))?;
        fs::create_dir(temp.path().join("volumes"))?;
        let dir = temp.path().join("volumes").display().to_string();
        let params = Map::from_iter([("dir".to_owned(), Value::from(dir))]);
        Ok(World { temp, params })
    }

    pub(crate) fn providers(&self) -> PathBuf {
        self.temp.path().join("providers")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.temp.path().join("volumes")
    }

    pub(crate) fn storage(&self, timeout: Duration) -> ExtStorage {
        ExtStorage::new(
            Arc::new(System),
            SearchPath::new([self.providers()]),
            self.temp.path().join("log"),
            self.temp.path().join("state"),
        )
        .with_timeout(timeout)
    }

    pub(crate) fn volume<'a>(&'a self, provider: &'a str, name: &'a str) -> Volume<'a> {
        Volume {
            provider,
            name,
            uuid: Some("0b5a"),
            cname: None,
            instance: Some("web1"),
            index: Some(0),
            size_mib: 64,
            params: &self.params,
        }
    }
}

/// Whatever has a file of ours as its backing file is ours too.
impl Drop for World {
    fn drop(&mut self) {
        let Ok(devices) = Command::new("losetup")
            .args(["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"])
            .output()
        else {
            return;
        };
        let volumes = self.volumes().display().to_string();
        for line in String::from_utf8_lossy(&devices.stdout).lines() {
            if let Some((device, file)) = line.split_once(' ')
                && file.starts_with(&volumes)
            {
                let _ = Command::new("losetup").arg("--detach").arg(device).status();
            }
        }
    }
}

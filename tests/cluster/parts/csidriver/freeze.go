package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A snapshot is a copy, which takes a while: whoever has the volume mounted is held still for it, by the freezer of
// the pods' control groups (version 1). So it holds one instant, as that of a storage system does.

const (
	freezer    = "/sys/fs/cgroup/freezer"
	freezeFor  = 5 * time.Second
	freezePoll = 5 * time.Millisecond
)

var podFolder = regexp.MustCompile(`/pods/([0-9a-f-]{36})/`)

// Hold still every pod that has a directory mounted; what is returned lets them go on.
func freeze(directory string) (func(), error) {
	var frozen []string
	thaw := func() {
		for _, group := range frozen {
			_ = os.WriteFile(filepath.Join(group, "freezer.state"), []byte("THAWED"), 0o644)
		}
	}
	pods, err := podsWith(directory)
	if err != nil || len(pods) == 0 {
		return thaw, err
	}
	groups, err := groupsOf(pods)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		frozen = append(frozen, group)
		if err := stop(group); err != nil {
			thaw()
			return nil, err
		}
	}
	return thaw, nil
}

func stop(group string) error {
	path := filepath.Join(group, "freezer.state")
	if err := os.WriteFile(path, []byte("FROZEN"), 0o644); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < freezeFor; time.Sleep(freezePoll) {
		state, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(state)) == "FROZEN" {
			return nil
		}
	}
	return fmt.Errorf("%s does not stand still", filepath.Base(group))
}

// The uids of the pods below whose folders a directory is mounted.
func podsWith(directory string) (map[string]bool, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	pods := map[string]bool{}
	for _, line := range strings.Split(string(mounts), "\n") {
		fields := strings.Fields(line)
		// The fourth is the path within the file system, which may begin below the machine's root.
		if len(fields) > 4 && strings.HasSuffix(directory, fields[3]) && len(fields[3]) > 1 {
			if found := podFolder.FindStringSubmatch(fields[4]); found != nil {
				pods[found[1]] = true
			}
		}
	}
	return pods, nil
}

func groupsOf(pods map[string]bool) ([]string, error) {
	var groups []string
	err := filepath.WalkDir(freezer, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		if uid, is := strings.CutPrefix(entry.Name(), "pod"); is && pods[uid] {
			groups = append(groups, path)
			return fs.SkipDir
		}
		return nil
	})
	return groups, err
}

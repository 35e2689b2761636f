package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// What is beside the volumes' own directories: descriptions of volumes, and snapshots.
const (
	descriptions = ".descriptions"
	snapshots    = ".snapshots"
	disk         = "disk.img"
)

var copying sync.Mutex

// A volume's description, so that asking for the same one again is answered as before.
type volume struct{ Capacity int64 }

// A snapshot: which volume it is of, and when its writers stood still.
type snapshot struct {
	Source   string
	Capacity int64
	CutAt    time.Time
}

func (d *driver) description(id string) string {
	return filepath.Join(d.root, descriptions, strings.ReplaceAll(id, "/", "_"))
}

func (d *driver) describe(id string, size int64) error {
	return writeJSON(d.description(id), volume{size})
}

func (d *driver) find(name string) (*volume, string) {
	paths, _ := filepath.Glob(filepath.Join(d.root, descriptions, "*_"+name))
	for _, path := range paths {
		node, found, _ := strings.Cut(filepath.Base(path), "_")
		var known volume
		if found == name && readJSON(path, &known) == nil {
			return &known, node + "/" + name
		}
	}
	return nil, ""
}

// The directory that a new volume is a copy of; empty for none.
func (d *driver) source(asked *csi.VolumeContentSource) (string, error) {
	if id := asked.GetSnapshot().GetSnapshotId(); id != "" {
		path := filepath.Join(d.root, snapshots, id, "data")
		if _, err := os.Stat(path); err != nil || strings.ContainsAny(id, "/\\") {
			return "", status.Error(codes.NotFound, "no such snapshot")
		}
		return path, nil
	}
	if id := asked.GetVolume().GetVolumeId(); id != "" {
		path, err := d.directory(id)
		if err != nil {
			return "", status.Error(codes.NotFound, "no such volume")
		}
		if _, err := os.Stat(path); err != nil {
			return "", status.Error(codes.NotFound, "no such volume")
		}
		return path, nil
	}
	return "", nil
}

// Make the directory of a volume, whole or not at all.
func (d *driver) fill(id, source string, isBlock bool, size int64) error {
	path, err := d.directory(id)
	if err != nil {
		return err
	}
	unfinished := path + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.MkdirAll(unfinished, 0o755); err != nil {
		return err
	}
	if source != "" {
		if err := copyTree(source, unfinished); err != nil {
			return err
		}
	}
	if isBlock {
		file, err := os.OpenFile(filepath.Join(unfinished, disk), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := file.Truncate(size); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}

func (d *driver) CreateSnapshot(_ context.Context, asked *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if asked.Name == "" || asked.SourceVolumeId == "" || strings.ContainsAny(asked.Name, "/\\") {
		return nil, status.Error(codes.InvalidArgument, "a snapshot needs a name and a volume")
	}
	folder := filepath.Join(d.root, snapshots, asked.Name)
	var known snapshot
	if readJSON(filepath.Join(folder, "snapshot.json"), &known) == nil {
		if known.Source != asked.SourceVolumeId {
			return nil, status.Error(codes.AlreadyExists, "a snapshot of this name is of another volume")
		}
		return &csi.CreateSnapshotResponse{Snapshot: described(asked.Name, known)}, nil
	}
	path, err := d.directory(asked.SourceVolumeId)
	if err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	var of volume
	_ = readJSON(d.description(asked.SourceVolumeId), &of)
	known = snapshot{Source: asked.SourceVolumeId, Capacity: of.Capacity}
	if err := os.RemoveAll(folder); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "data"), 0o700); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	// One at a time: two volumes of one pod are two reasons to hold it still.
	copying.Lock()
	defer copying.Unlock()
	thaw, err := freeze(path)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "hold writers still: %v", err)
	}
	known.CutAt = time.Now().UTC()
	err = copyTree(path, filepath.Join(folder, "data"))
	thaw()
	if err == nil {
		err = writeJSON(filepath.Join(folder, "snapshot.json"), known)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	return &csi.CreateSnapshotResponse{Snapshot: described(asked.Name, known)}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, asked *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if asked.SnapshotId == "" {
		return nil, status.Error(codes.InvalidArgument, "a snapshot is needed")
	}
	if !strings.ContainsAny(asked.SnapshotId, "/\\") && asked.SnapshotId != ".." {
		if err := os.RemoveAll(filepath.Join(d.root, snapshots, asked.SnapshotId)); err != nil {
			return nil, status.Errorf(codes.Internal, "%v", err)
		}
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

func (d *driver) ListSnapshots(_ context.Context, asked *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	paths, _ := filepath.Glob(filepath.Join(d.root, snapshots, "*", "snapshot.json"))
	slices.Sort(paths)
	begin := 0
	if asked.StartingToken != "" {
		if _, err := fmt.Sscanf(asked.StartingToken, "%d", &begin); err != nil || begin > len(paths) {
			return nil, status.Error(codes.Aborted, "not a token of this driver")
		}
	}
	listed := &csi.ListSnapshotsResponse{}
	for at, path := range paths[begin:] {
		var known snapshot
		id := filepath.Base(filepath.Dir(path))
		isWanted := (asked.SnapshotId == "" || asked.SnapshotId == id) && readJSON(path, &known) == nil
		if !isWanted || (asked.SourceVolumeId != "" && asked.SourceVolumeId != known.Source) {
			continue
		}
		if asked.MaxEntries > 0 && len(listed.Entries) == int(asked.MaxEntries) {
			listed.NextToken = fmt.Sprint(begin + at)
			break
		}
		listed.Entries = append(listed.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: described(id, known)})
	}
	return listed, nil
}

func described(id string, known snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: id, SourceVolumeId: known.Source, SizeBytes: known.Capacity,
		CreationTime: timestamppb.New(known.CutAt), ReadyToUse: true,
	}
}

func copyTree(from, to string) error {
	said, err := exec.Command("cp", "-a", "--reflink=auto", "--sparse=auto", from+"/.", to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy: %v: %s", err, said)
	}
	return nil
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func writeJSON(path string, value any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// An operator in small: it makes a Secret and a claim for each Widget, and serves its definition's webhooks.
//
// GROUP is the API group of the Widgets, NAMESPACE where they are. v1 calls a field `color`, v1beta1 `colour`; a Widget
// without one is refused.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

type object = map[string]any

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	http.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/convert", review(convert))
	http.HandleFunc("/validate", review(validate))
	go func() {
		for {
			if err := reconcile(); err != nil {
				log.Print(err)
			}
			time.Sleep(time.Second)
		}
	}()
	log.Fatal(http.ListenAndServeTLS(":8443", "/tls/tls.crt", "/tls/tls.key", nil))
}

// review answers a review: what `answer` makes of its request is its response.
func review(answer func(request object) object) http.HandlerFunc {
	return func(writer http.ResponseWriter, request *http.Request) {
		var body object
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
			http.Error(writer, err.Error(), http.StatusBadRequest)
			return
		}
		asked := body["request"].(object)
		response := answer(asked)
		response["uid"] = asked["uid"]
		writer.Header().Set("Content-Type", "application/json")
		json.NewEncoder(writer).Encode(object{
			"apiVersion": body["apiVersion"], "kind": body["kind"], "response": response,
		})
	}
}

func convert(request object) object {
	converted := []any{}
	wanted := request["desiredAPIVersion"].(string)
	from, to := "colour", "color"
	if strings.HasSuffix(wanted, "/v1beta1") {
		from, to = to, from
	}
	for _, one := range request["objects"].([]any) {
		widget := one.(object)
		widget["apiVersion"] = wanted
		if spec, has := widget["spec"].(object); has {
			if value, has := spec[from]; has {
				delete(spec, from)
				spec[to] = value
			}
		}
		converted = append(converted, widget)
	}
	return object{"convertedObjects": converted, "result": object{"status": "Success"}}
}

func validate(request object) object {
	widget, _ := request["object"].(object)
	spec, _ := widget["spec"].(object)
	if spec["color"] == nil && spec["colour"] == nil {
		return object{"allowed": false, "status": object{"message": "a Widget needs a color"}}
	}
	return object{"allowed": true}
}

// reconcile makes what is missing, and never changes what is there.
func reconcile() error {
	group, namespace := os.Getenv("GROUP"), os.Getenv("NAMESPACE")
	core := "/api/v1/namespaces/" + namespace
	listed, err := call("GET", "/apis/"+group+"/v1/namespaces/"+namespace+"/widgets", nil)
	if err != nil {
		return err
	}
	for _, one := range listed["items"].([]any) {
		metadata := one.(object)["metadata"].(object)
		name := metadata["name"].(string)
		owner := []any{object{
			"apiVersion": group + "/v1", "kind": "Widget", "name": name, "uid": metadata["uid"],
			"controller": true, "blockOwnerDeletion": true,
		}}
		key := make([]byte, 16)
		rand.Read(key)
		made := map[string]object{
			core + "/secrets": {
				"metadata":   object{"name": name + "-key", "ownerReferences": owner},
				"stringData": object{"key": hex.EncodeToString(key)},
			},
			core + "/persistentvolumeclaims": {
				"metadata": object{"name": name + "-data", "ownerReferences": owner},
				"spec": object{
					"accessModes": []string{"ReadWriteOnce"},
					"resources":   object{"requests": object{"storage": "1Mi"}},
				},
			},
		}
		for path, body := range made {
			if _, err := call("POST", path, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// call asks the API server; that something exists already is no error.
func call(method, path string, body object) (object, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	defer client.CloseIdleConnections()
	sent, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(method, "https://kubernetes.default.svc"+path, bytes.NewReader(sent))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 && response.StatusCode != http.StatusConflict {
		return nil, fmt.Errorf("%s %s: %s: %.200s", method, path, response.Status, content)
	}
	var answer object
	return answer, json.Unmarshal(content, &answer)
}

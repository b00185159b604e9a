{{- /* Fail on values that contradict each other; what the schema can say is in values.schema.json. */ -}}
{{- define "llm-gateway.checks" -}}
{{- $values := .Values -}}
{{- range $key, $value := dict "engines" "engines" "routes" "routes" "auth" "keys" -}}
{{- if hasKey $values.config $key -}}
{{- fail (printf "config.%s: write it as the value `%s`, beside `config`" $key $value) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "host" "port" -}}
{{- if hasKey ($values.config.server | default dict) $key -}}
{{- fail (printf "config.server.%s: the image listens on port 8000 of all addresses; `service.port` is the port of the Service" $key) -}}
{{- end -}}
{{- end -}}
{{- if ($values.config.server | default dict).tls_client_ca -}}
{{- fail "config.server.tls_client_ca: the probes of the kubelet have no certificate to show; have a proxy ask for one" -}}
{{- end -}}
{{- if not $values.engines -}}
{{- fail "engines: at least one engine is needed" -}}
{{- end -}}
{{- with $values.defaultEngine -}}
{{- if not (hasKey $values.engines .) -}}
{{- fail (printf "defaultEngine: there is no engine %q; there is %s" . (keys $values.engines | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and (hasKey $values.engines "default") (ne . "default") -}}
{{- fail (printf "defaultEngine: an engine that is named `default` comes first; remove it (`engines.default: null`) to have %q first" .) -}}
{{- end -}}
{{- end -}}
{{- $keys := $values.keys -}}
{{- if not (or $keys.generate $keys.hashes $keys.existingSecret $keys.insecureNoAuth) -}}
{{- fail "keys: the gateway does not start without a key; set one of `generate`, `hashes`, `existingSecret` and `insecureNoAuth`" -}}
{{- end -}}
{{- if and $keys.existingSecret $keys.hashes -}}
{{- fail "keys.hashes: with `existingSecret` all keys are in that Secret" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas: it is more than maxReplicas" -}}
{{- end -}}
{{- if gt (include "llm-gateway.most" . | int) 1 -}}
{{- with include "llm-gateway.narrow" . | trim -}}
{{- fail (printf "%s: several pods share no claim without the access mode ReadWriteMany; have one replica, or `persistent: false`" (. | replace "\n" ", ")) -}}
{{- end -}}
{{- if dig "store" "file" "" $values.config -}}
{{- fail "config.store.file: one file of stored answers serves one pod; have one replica and no autoscaling" -}}
{{- end -}}
{{- end -}}
{{- end -}}

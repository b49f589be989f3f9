# Three databases, each with an owner who can open only that one. Runs once, on the empty volume.
# The entrypoint sources this file, so it must not exit.
studyflow_database() { # NAME; reads the owner's password from the environment, not from arguments
    psql -v ON_ERROR_STOP=1 --no-psqlrc --host /var/run/postgresql \
        --username "$POSTGRES_USER" --dbname postgres --set name="$1" <<'SQL'
\getenv password STUDYFLOW_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}
STUDYFLOW_PASSWORD=$OPTUNA_PASSWORD studyflow_database optuna
STUDYFLOW_PASSWORD=$MLFLOW_PASSWORD studyflow_database mlflow
STUDYFLOW_PASSWORD=$PREFECT_PASSWORD studyflow_database prefect
# Prefect's tables need it. The owner could create it too, but not on every managed server.
psql -v ON_ERROR_STOP=1 --no-psqlrc --host /var/run/postgresql --username "$POSTGRES_USER" \
    --dbname prefect --command 'CREATE EXTENSION IF NOT EXISTS pg_trgm'
